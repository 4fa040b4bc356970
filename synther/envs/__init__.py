"""An environment's name becomes a ``gymnasium.Env``, which is scored and evaluated here.

Simulators are imported when an environment is made, not before.
"""

from synther.envs.evaluation import Evaluator, evaluate, evaluate_stacked
from synther.envs.faults import EnvironmentFaultError
from synther.envs.legacy import Backend, use_backend
from synther.envs.names import env_id_of
from synther.envs.registry import make_env, time_limit
from synther.envs.scores import normalized_score, reference_scores
from synther.envs.simulators import MissingSimulatorError, UnknownEnvironmentError
from synther.envs.states import set_state_from_observation
from synther.envs.wrappers import in_action_units

__all__ = [
    "Backend",
    "EnvironmentFaultError",
    "Evaluator",
    "MissingSimulatorError",
    "UnknownEnvironmentError",
    "env_id_of",
    "evaluate",
    "evaluate_stacked",
    "in_action_units",
    "make_env",
    "normalized_score",
    "reference_scores",
    "set_state_from_observation",
    "time_limit",
    "use_backend",
]
