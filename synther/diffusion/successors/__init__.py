"""What follows an observation and an action, learnt from real rows by plain regression.

Read ``regression.py`` (stacks of networks and how they train), then ``ensemble.py`` (what is known
of next observation, reward and terminal, and how surely), then ``prepared_rows.py`` and
``fitting.py`` (how it is learnt from transitions). ``stored.py`` keeps it in the model's file.
``synther/diffusion/generation/consistency.py`` repairs samples with it, and
``synther/diffusion/fidelity/conditional.py`` measures them.
"""

from synther.diffusion.successors.ensemble import TransitionEnsemble
from synther.diffusion.successors.fitting import MIN_ROWS, default_steps, fit_ensemble

__all__ = ["MIN_ROWS", "TransitionEnsemble", "default_steps", "fit_ensemble"]
