"""Whether transitions obey the real dynamics: each is taken again in the simulator."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from synther.diffusion.distances import Advance
from synther.envs import MissingSimulatorError, UnknownEnvironmentError
from synther.envs.one_step import NotSimulatedError, Steps, simulate_steps
from synther.transitions import Transitions


@dataclass(frozen=True)
class DynamicsError:
    """How far transitions are from what the simulator answers to their observations and actions.

    Errors are in units of a standard deviation, that of each column of the real data; None where
    they are not defined.

    Args:
        next_observation: mean over rows and columns of the squared error (SynthER, arXiv
            2303.06614, "dynamics error").
        median: over the rows, of the mean over columns. A few wild rows move the mean.
        reward: mean over rows of the squared error.
        terminal: share of the rows whose terminal flag is wrong.
        rows: how many were simulated.
        unknown: share of the rows drawn that do not hold their state, and were left out.
        unstable: share of the rows drawn whose simulation diverged, and were left out.
        reason: why there is nothing, or no reward error.
    """

    next_observation: float | None = None
    median: float | None = None
    reward: float | None = None
    terminal: float | None = None
    rows: int = 0
    unknown: float = 0.0
    unstable: float = 0.0
    reason: str | None = None


def dynamics_error(
    transitions: Transitions,
    env_id: str | None,
    *,
    units: Transitions | None = None,
    rows: int = 10_000,
    seed: int = 0,
    advance: Advance | None = None,
) -> DynamicsError:
    """Put the simulator into the state of each observation, take the action, compare.

    Real rows are not 0 but near 1e-14 (``Hopper-v2``) to 1e-11 (``HalfCheetah-v2``): they are
    float32, and contacts amplify the rounding.

    Args:
        transitions: any number of rows.
        env_id: a name for ``make_env``; None where the data do not say.
        units: real rows, whose standard deviations are the units; the transitions themselves where
            None. Compare sets of rows in the same units.
        rows: how many are simulated, drawn without replacement.
        seed: of the draw.
        advance: told how many more rows are simulated.

    Returns:
        Without numbers, and with a reason, where the simulator is not there or an observation does
        not determine the state.
    """
    drawn = draw(transitions, rows, seed)
    if env_id is None:
        return DynamicsError(reason="not defined here: the data do not name their environment")
    try:
        steps = simulate_steps(env_id, drawn.observations, drawn.actions, advance=advance)
    except (NotSimulatedError, MissingSimulatorError, UnknownEnvironmentError) as error:
        return DynamicsError(reason=f"not defined here: {error}")
    return summarise(drawn, steps, transitions if units is None else units)


def draw(transitions: Transitions, rows: int, seed: int) -> Transitions:
    """At most ``rows`` rows, drawn without replacement."""
    if len(transitions) <= rows:
        return transitions
    chosen = np.random.default_rng(seed).choice(len(transitions), rows, replace=False)
    return transitions.subset(np.sort(chosen))


def summarise(transitions: Transitions, steps: Steps, units: Transitions) -> DynamicsError:
    """The errors of transitions against the simulator's ``steps`` from them."""
    simulated = steps.stable
    found = DynamicsError(
        rows=int(simulated.sum()),
        unknown=float(np.mean(~steps.known)),
        unstable=float(np.mean(steps.known & ~simulated)),
    )
    if not simulated.any():
        return replace(found, reason="not defined here: no row could be simulated")
    errors = squared_errors(transitions, steps, units)[simulated]
    found = replace(found, next_observation=float(errors.mean()), median=float(np.median(errors)))
    if not steps.reward_known:
        return replace(found, reason="no reward error: the goal is hidden")
    reward_error = (transitions.rewards - steps.rewards)[simulated] / (_spread(units.rewards) or 1)
    wrong = (transitions.terminals > 0) != steps.terminals
    return replace(
        found,
        reward=float(np.mean(reward_error**2)),
        terminal=float(np.mean(wrong[simulated])),
    )


def squared_errors(
    transitions: Transitions, steps: Steps, units: Transitions
) -> NDArray[np.float64]:
    """Mean over columns of the squared error of each next observation ``[N]``, in units of the
    standard deviations in ``units``; columns that are constant there are left out. NaN where there
    was no simulation."""
    scale = np.array([_spread(column) for column in units.next_observations.T])
    varying = scale > 0
    gaps = transitions.next_observations.astype(np.float64) - steps.next_observations
    errors: NDArray[np.float64] = np.mean((gaps[:, varying] / scale[varying]) ** 2, axis=1)
    return errors


def _spread(column: NDArray[np.float32]) -> float:
    """Standard deviation; 0 also where a column varies by rounding alone."""
    if np.ptp(column) <= 1e-6 * np.abs(column).max():
        return 0.0
    return float(column.std(dtype=np.float64))
