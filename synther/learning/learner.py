"""A learning agent is made of networks, optimisers, and steps of these on losses.

:class:`Learner` is the common part of all agents; :class:`Agent` is what the training loop of
``loop.py`` trains, on transitions as on pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.optim import Adam, Optimizer

from synther.runs.runtime import COMPILED, CompileMode

LearnerT = TypeVar("LearnerT", bound="Learner")
Metrics = dict[str, Tensor]
"""Name -> detached ``[seeds]``."""

Loss = Callable[..., tuple[Tensor, Metrics]]
"""Returns the scalar to minimise (the mean over the batch, the sum over the stack) and metrics."""

Gradient = Callable[..., tuple[tuple[Tensor, ...], Metrics]]
"""Returns the gradient of a loss for each parameter, and its metrics."""


class Dims(NamedTuple):
    """Columns of a state and of an action."""

    state: int
    action: int


class Learner(nn.Module):
    """A stack of independent agents: networks and optimisers that are attributes are saved and
    restored by themselves.

    Args:
        compile: ``default`` and ``max`` compile each loss together with its gradient.
    """

    def __init__(self, compile: CompileMode) -> None:
        super().__init__()
        self._compile = compile in COMPILED
        self._compiled: dict[str, Gradient] = {}

    def descend(self, optimizer: Optimizer, loss: Loss, *inputs: Any) -> Metrics:
        """One step of ``optimizer`` on ``loss(*inputs)``; its metrics.

        The gradient is taken for the optimiser's parameters alone: an actor's loss costs no
        gradient of the critics' weights.
        """
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        gradients, metrics = self._gradient_of(loss, parameters)(*inputs)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            # A gradient may come transposed, and the fused Adam reads it in storage order.
            parameter.grad = gradient.contiguous()
        optimizer.step()
        return metrics

    def _gradient_of(self, loss: Loss, parameters: list[Tensor]) -> Gradient:
        """``loss`` and its gradient as one function, compiled where that was asked for."""

        def gradient(*inputs: Any) -> tuple[tuple[Tensor, ...], Metrics]:
            scalar, metrics = loss(*inputs)
            return torch.autograd.grad(scalar, parameters), metrics

        if not self._compile:
            return gradient
        name = loss.__name__
        if name not in self._compiled:
            # One graph of forward and backward together: apart they are hardly faster than eager.
            torch._dynamo.config.trace_autograd_ops = True
            # A code object of its own: the compiler takes what shares one for one function, again
            # and again recompiled.
            gradient.__code__ = gradient.__code__.replace(co_name=f"gradient_of_{name}")
            self._compiled[name] = torch.compile(gradient, fullgraph=True)
        return self._compiled[name]

    def optimizers(self) -> dict[str, Optimizer]:
        """The optimisers among the attributes, by name."""
        return {key: value for key, value in vars(self).items() if isinstance(value, Optimizer)}

    def training_state(self) -> dict[str, Any]:
        """Networks, targets and optimisers, for a checkpoint."""
        optimizers = {key: value.state_dict() for key, value in self.optimizers().items()}
        return {"networks": self.state_dict(), "optimizers": optimizers}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`training_state` gave, on whichever device that was."""
        self.load_state_dict(state["networks"])
        for key, optimizer in self.optimizers().items():
            optimizer.load_state_dict(state["optimizers"][key])
            fit_to_device(optimizer)


def acting_copy(learner: LearnerT) -> LearnerT:
    """A copy on the CPU that can act as ``learner`` does now, and nothing else.

    It has what ``acts_with`` of the class that defines ``act`` names; all but optimisers where it
    names nothing.
    """
    kind = type(learner)
    owner = next(each for each in kind.__mro__ if "act" in vars(each))
    own = {*vars(learner), *learner._modules, *learner._parameters, *learner._buffers}
    names = vars(owner).get("acts_with") or own - vars(nn.Module()).keys() - {"_compiled"}
    copied = kind.__new__(kind)
    nn.Module.__init__(copied)
    for name in names:
        if not isinstance(value := getattr(learner, name), Optimizer):
            setattr(copied, name, copy.deepcopy(value))
    return copied.cpu()


@dataclass(frozen=True)
class StackPolicy:
    """The actions of an agent on the CPU, as an ``Evaluator`` asks for them, in [-1, 1]: what it
    sees goes through ``states`` first, and it acts in ``[-max_action, max_action]``."""

    agent: Any
    states: Callable[[Tensor], Tensor] | None = None
    max_action: float = 1.0

    @torch.no_grad()
    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Observations ``[S, E, O]`` -> actions ``[S, E, A]``."""
        seen = torch.from_numpy(observations)
        actions: Tensor = self.agent.act(seen if self.states is None else self.states(seen))
        return (actions if self.max_action == 1 else actions / self.max_action).numpy()


class Agent(Learner):
    """S independent agents of one algorithm, trained as one stack from a fixed source of batches.

    A subclass makes its networks from ``generators`` (one a seed), then its optimisers by
    ``adam``, and defines ``act``, ``update`` and, where its update draws random numbers, ``noise``.
    """

    acts_with: ClassVar[Sequence[str]] = ()
    """The attributes that ``act`` reads, of the class that defines it, so that an evaluation copies
    no others. Empty: all."""

    def act(self, states: Any) -> Any:
        """Deterministic actions ``[S, N, A]`` for states ``[S, N, O]``; an agent that sees pictures
        maps arrays ``[N, C, H, W]`` to ``[N, A]``."""
        raise NotImplementedError

    def policy(self, states: Tensor) -> Tensor | Distribution:
        """What rows are guided to: the distribution of actions ``[S, N, A]`` at states
        ``[S, N, O]``; of an agent that has none, its actions."""
        found: Tensor = self.act(states)
        return found

    def noise(self, generator: torch.Generator, updates: int) -> tuple[Tensor, ...]:
        """The random numbers of that many updates of one seed: tensors ``[updates, ...]``."""
        return ()

    def variant(self, step: int) -> Hashable:
        """The straight-line variant of the update that ``step``, counted from 1, takes: with or
        without a delayed part, during a warm-up or after it. This is a query: it changes nothing.
        """
        return None

    def schedule(self, step: Any) -> None:
        """Set what depends on the step, such as a learning rate, before the update of ``step``: an
        int or, of an agent whose updates go into one CUDA graph, a float64 scalar on the device."""

    def update(self, batch: Any, noise: tuple[Tensor, ...], variant: Hashable) -> Metrics:
        """One gradient step on every member.

        Args:
            batch: what the agent's source hands out; of transitions, a ``Batch`` ``[S, B, ...]``.
            noise: what ``noise`` drew, stacked: tensors ``[S, ...]``.
            variant: what :meth:`variant` said of this step.
        """
        raise NotImplementedError


def adam(parameters: Iterable[Tensor], learning_rate: float) -> Adam:
    """Adam for stacked parameters, in one fused call.

    Its state is per element, so the members of a stack stay independent. (Anything that mixes
    elements, such as clipping by the global norm, would couple them.)
    """
    listed = list(parameters)
    # Of CUDA graphs; groups that are added later take it from here.
    capturable = listed[0].device.type == "cuda"
    return Adam(listed, lr=learning_rate, fused=True, capturable=capturable)


def fit_to_device(optimizer: Optimizer) -> None:
    """Set what in an optimiser's settings belongs to the device of its parameters and not to the
    run: on CUDA, CUDA graphs can capture its steps, and rates that are tensors are there."""
    for group in optimizer.param_groups:
        device = group["params"][0].device
        group["capturable"] = device.type == "cuda"
        tensors = {key: each for key, each in group.items() if isinstance(each, Tensor)}
        group.update({key: each.to(device) for key, each in tensors.items()})
