"""What a policy answers for observations is actions or their distribution; all else is refused.

A policy is a user's own function: what it does wrong is said to be its, and not the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from synther.diffusion.conditioning.errors import ConditionError

_ERRORS = (RuntimeError, TypeError, ValueError)
"""What torch and numpy raise of shapes and types."""


def answer_of(policy: Callable[[Tensor], Any], observations: Tensor) -> Any:
    """What it answers for observations ``[N, O]``.

    Raises:
        ConditionError: it cannot be called with them.
    """
    try:
        # What is computed in inference mode has no gradient, which a distribution is asked for.
        with torch.inference_mode(False), torch.no_grad():
            return policy(observations.clone() if observations.is_inference() else observations)
    except (torch.AcceleratorError, torch.OutOfMemoryError):  # no matter of shapes or types
        raise
    except _ERRORS as error:
        kind = str(observations.dtype).removeprefix("torch.")
        raise ConditionError(
            f"the policy fails for observations {list(observations.shape)}, {kind} on "
            f"{observations.device}: {error}; expected a function of these that gives actions "
            "[N, A] or their distribution"
        ) from error


def aims_of(acts: Any, actions: Tensor) -> Tensor:
    """The actions that were answered, as a tensor such as ``actions [N, A]``.

    Raises:
        ConditionError: they are none, or of another shape.
    """
    try:
        aims = torch.as_tensor(acts)
        if aims.is_complex():
            raise TypeError("complex numbers are no actions")
        aims = (aims if aims.layout == torch.strided else aims.to_dense()).to(actions)
    except _ERRORS as error:
        raise ConditionError(
            f"the policy gives a {type(acts).__name__} for {len(actions)} observations, expected "
            f"a tensor or an array of actions {list(actions.shape)}, or their distribution"
        ) from error
    _require_shape("actions", aims.shape, [actions.shape], actions)
    return aims


def slope_of(law: Any, actions: Tensor) -> Tensor:
    """The gradient ``[N, A]`` of the log-likelihood of ``actions [N, A]``, by these, in the
    distribution that was answered.

    Raises:
        ConditionError: it is one of other actions, or has no such gradient.
    """
    name = f"a {type(law).__name__}"
    if hasattr(law, "batch_shape"):
        columns = actions.shape[1]
        # One distribution may do for all observations, but not one column for all actions.
        fitting = [(), (columns,), (1, columns), actions.shape]
        _require_shape(name, law.batch_shape + law.event_shape, fitting, actions)
    with torch.inference_mode(False), torch.enable_grad():
        at = actions.detach().clone().requires_grad_()
        try:
            likelihood = law.log_prob(at)
            if not isinstance(likelihood, Tensor):
                raise TypeError(f"log_prob gives a {type(likelihood).__name__}, and no tensor")
            gradient = _gradient(likelihood.sum(), at)
        except _ERRORS as error:
            raise ConditionError(
                f"the policy gives {name}, which has no log-likelihood of actions "
                f"{list(actions.shape)}: {error}"
            ) from error
    if gradient is None:
        raise ConditionError(
            f"the policy gives {name}, whose log-likelihood has no gradient by the action that "
            "could be followed; expected a distribution such as a Normal, or actions"
        )
    return gradient


def require_finite(gradient: Tensor) -> Tensor:
    """The gradient ``[N, A]`` that was found for rows that are finite.

    Raises:
        ConditionError: it is not.
    """
    if not (finite := gradient.isfinite()).all():
        row = int(finite.logical_not().nonzero()[0, 0])
        raise ConditionError(
            f"the policy gives actions, or a distribution of them, that are not finite for row "
            f"{row} of {len(gradient)} observations, which are; expected numbers for all"
        )
    return gradient


def _gradient(likelihood: Tensor, at: Tensor) -> Tensor | None:
    if not likelihood.requires_grad:
        return None
    (gradient,) = torch.autograd.grad(likelihood, at, allow_unused=True)
    return gradient


def _require_shape(
    what: str, shape: Sequence[int], fitting: Sequence[Sequence[int]], actions: Tensor
) -> None:
    if tuple(shape) not in map(tuple, fitting):
        raise ConditionError(
            f"the policy gives {what} of shape {list(shape)} for {len(actions)} observations, "
            f"expected {list(actions.shape)}"
        )
