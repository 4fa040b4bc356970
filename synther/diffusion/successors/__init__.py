"""What follows an observation and an action, learnt from real rows by plain regression.

Read ``regression.py`` (stacks of networks and how they train), then ``ensemble.py`` (what is known
of next observation, reward and terminal, and how surely), then ``fitting.py`` (how it is learnt
from transitions). ``synther/diffusion/generation/consistency.py`` repairs samples with it.
"""

from synther.diffusion.successors.ensemble import TransitionEnsemble
from synther.diffusion.successors.fitting import fit_ensemble

__all__ = ["TransitionEnsemble", "fit_ensemble"]
