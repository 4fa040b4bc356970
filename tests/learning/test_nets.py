"""Stacked layers against one torch.nn module a member."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from synther.learning import relu_mlp
from synther.learning.nets import StackedCritic, StackedLinear, StackedMLP, move_targets

pytestmark = pytest.mark.arithmetic


def generators(seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(seeds)]


def member(mlp: StackedMLP, *index: int) -> nn.Sequential:
    """The same network out of torch.nn, with the weights of one member."""
    modules: list[nn.Module] = []
    for layer in mlp.layers:
        weight, bias = layer.weight[index], layer.bias[index]
        linear = nn.Linear(weight.shape[0], weight.shape[1], dtype=weight.dtype)
        linear.load_state_dict({"weight": weight.detach().T, "bias": bias.detach()[0]})
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("stack", [(3,), (2, 4)])
def test_every_member_is_its_own_network(stack: tuple[int, ...], fused: bool) -> None:
    mlp = StackedMLP(stack, [5, 16, 16, 2], generators(stack[0])).double()
    mlp.fused = fused
    inputs = torch.randn(*stack, 7, 5, dtype=torch.float64, requires_grad=True)
    outputs = mlp(inputs)
    weight_of_output = torch.randn_like(outputs)
    gradients = torch.autograd.grad((outputs * weight_of_output).sum(), [inputs, *mlp.parameters()])
    for index in torch.cartesian_prod(*map(torch.arange, stack)).reshape(-1, len(stack)).tolist():
        plain = member(mlp, *index)
        one = inputs.detach()[tuple(index)].requires_grad_()
        expected = plain(one)
        torch.testing.assert_close(outputs[tuple(index)], expected)
        (expected * weight_of_output[tuple(index)]).sum().backward()
        torch.testing.assert_close(gradients[0][tuple(index)], one.grad)
        for number, layer in enumerate(plain[::2]):
            of_weight, of_bias = gradients[1 + 2 * number], gradients[2 + 2 * number]
            torch.testing.assert_close(of_weight[tuple(index)], layer.weight.grad.T)
            torch.testing.assert_close(of_bias[tuple(index)][0], layer.bias.grad)


@pytest.mark.parametrize("rows", [1, 512, 513, 1100])
def test_rows_in_blocks_give_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = StackedMLP((2, 2), [3, 8, 8, 2], generators(2)).double()
    inputs = torch.randn(2, rows, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for in_blocks in (False, True):
        monkeypatch.setattr(relu_mlp, "_pays", lambda _, answer=in_blocks: answer)
        for frozen in (False, True):
            outputs = mlp(inputs, frozen=frozen)
            wanted = [inputs] if frozen else [inputs, *mlp.parameters()]
            found.append([outputs, *torch.autograd.grad(outputs.square().sum(), wanted)])
        weights_alone = mlp(inputs.detach()).square().sum()
        found[-1] += torch.autograd.grad(weights_alone, list(mlp.parameters()))
    for batched, blocks in ((found[0], found[2]), (found[1], found[3])):
        torch.testing.assert_close(blocks, batched)


def test_rows_go_in_blocks_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    in_blocks = relu_mlp._forward_in_blocks
    monkeypatch.setattr(
        relu_mlp, "_forward_in_blocks", lambda *given: calls.append(given) or in_blocks(*given)
    )
    mlp = StackedMLP((4,), [3, 8, 1], generators(4))
    mlp(torch.zeros(4, 256, 3))
    assert not calls
    mlp(torch.zeros(4, 257, 3))
    assert calls


def test_the_fused_gradient_is_that_of_finite_differences() -> None:
    mlp = StackedMLP((2,), [3, 8, 1], generators(2)).double()
    inputs = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: mlp(x), inputs)


def test_only_the_plain_form_can_be_differentiated_twice() -> None:
    mlp = StackedMLP((1,), [3, 8, 1], generators(1))
    inputs = torch.randn(1, 4, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(mlp(inputs).sum(), inputs, create_graph=True)
    mlp.fused = False
    (gradient,) = torch.autograd.grad(mlp(inputs).sum(), inputs, create_graph=True)
    (twice,) = torch.autograd.grad(gradient.square().sum(), [mlp.layers[0].weight])
    assert twice.abs().sum() > 0


def test_an_activation_other_than_relu_is_applied() -> None:
    mlp = StackedMLP((2,), [3, 8, 1], generators(2), activation=torch.tanh)
    inputs = torch.randn(2, 4, 3)
    first, last = mlp.layers
    expected = last(torch.tanh(first(inputs)))
    torch.testing.assert_close(mlp(inputs), expected)
    assert not torch.allclose(mlp(inputs), last(F.relu(first(inputs))))


def test_a_critic_shares_its_inputs_and_keeps_the_last_axis() -> None:
    critic = StackedCritic(2, 3, 4, 2, [8], generators(2))
    states, actions = torch.randn(2, 5, 4), torch.randn(2, 5, 2)
    q = critic(states, actions)
    assert q.shape == (2, 3, 5, 1)
    expected = member(critic.mlp, 1, 2)(torch.cat([states[1], actions[1]], dim=-1))
    torch.testing.assert_close(q[1, 2], expected)
    torch.testing.assert_close(critic(states, actions, first=True), q[:, 0])


@pytest.mark.parametrize("fused", [True, False])
def test_frozen_weights_pass_the_gradient_on_and_take_none(fused: bool) -> None:
    critic = StackedCritic(1, 2, 4, 2, [8], generators(1))
    critic.mlp.fused = fused
    states, actions = torch.randn(1, 5, 4), torch.randn(1, 5, 2, requires_grad=True)
    (free,) = torch.autograd.grad(critic(states, actions).sum(), actions)
    critic(states, actions, frozen=True).sum().backward()
    torch.testing.assert_close(actions.grad, free)
    assert all(each.grad is None for each in critic.parameters())


def test_a_seeds_weights_do_not_depend_on_its_neighbours() -> None:
    together = StackedCritic(3, 2, 4, 1, [8, 8], generators(3))
    alone = StackedCritic(1, 2, 4, 1, [8, 8], generators(3)[2:])
    for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours[2], theirs[0], rtol=0, atol=0)
    assert not torch.equal(together.mlp.layers[0].weight[0, 0], together.mlp.layers[0].weight[0, 1])


def test_initial_weights_are_spread_as_those_of_nn_linear() -> None:
    ours = StackedLinear((1,), 400, 300, generators(1))
    theirs = nn.Linear(400, 300)
    for own, other in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert own.abs().max() <= 1 / 20
        assert own.std().item() == pytest.approx(other.std().item(), rel=0.2)


def test_one_generator_is_wanted_for_each_seed() -> None:
    with pytest.raises(ValueError, match="2 generators for 3 seeds"):
        StackedLinear((3,), 2, 2, generators(2))


def test_targets_move_by_their_rate() -> None:
    source = StackedMLP((2,), [3, 4, 1], generators(2))
    target = copy.deepcopy(source)
    with torch.no_grad():
        for each in source.parameters():
            each.add_(1.0)
    before = [each.clone() for each in target.parameters()]
    move_targets(target, source, 0.25)
    for now, old in zip(target.parameters(), before, strict=True):
        torch.testing.assert_close(now, old + 0.25)


def in_bf16(hidden: list[int], *, fused: bool = True) -> tuple[StackedCritic, StackedCritic]:
    """The same critics in bf16 and, as the twin that knows the answers, in float64."""
    ours = StackedCritic(2, 2, 4, 2, hidden, generators(2), precision="bf16")
    ours.mlp.fused = fused
    twin = StackedCritic(2, 2, 4, 2, hidden, generators(2)).double()
    return ours, twin


def relative_error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return ((ours - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("form", ["batched", "blocks", "unfused"])
def test_bf16_stays_close_to_float64_values_and_gradients(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relu_mlp, "_pays", lambda _: form == "blocks")
    ours, twin = in_bf16([64, 64, 64], fused=form != "unfused")
    states, actions = torch.randn(2, 700, 4), torch.randn(2, 700, 2, requires_grad=True)
    exact_actions = actions.detach().double().requires_grad_()
    for options in ({}, {"frozen": True}, {"first": True}, {"frozen": True, "first": True}):
        q = ours(states, actions, **options)
        exact_q = twin(states.double(), exact_actions, **options)
        weights, exact_weights = list(ours.parameters()), list(twin.parameters())
        if "frozen" in options:
            weights, exact_weights = [], []
        found = torch.autograd.grad(q.square().sum(), [actions, *weights])
        exact = torch.autograd.grad(exact_q.square().sum(), [exact_actions, *exact_weights])
        assert {each.dtype for each in (q, *found)} == {torch.float32}
        assert 1e-4 < relative_error(q, exact_q) < 0.01  # a bf16 number is good to 0.4 %
        for mine, expected in zip(found, exact, strict=True):
            # More than that: a unit in 300 is on in one of the two and off in the other.
            assert relative_error(mine, expected) < 0.1


def test_bf16_leaves_first_and_last_layers_in_float32() -> None:
    for hidden, same in (([32], True), ([32, 32], False)):
        ours, _ = in_bf16(hidden)
        plain = StackedCritic(2, 2, 4, 2, hidden, generators(2))
        states, actions = torch.randn(2, 9, 4), torch.randn(2, 9, 2)
        assert torch.equal(ours(states, actions), plain(states, actions)) == same
    assert {each.dtype for each in ours.parameters()} == {torch.float32}


def test_chosen_members_answer_in_the_order_asked_for() -> None:
    critic = StackedCritic(2, 5, 3, 2, [8, 8], generators(2))
    states, actions = torch.randn(2, 6, 3), torch.randn(2, 6, 2)
    every = critic(states, actions)
    chosen = torch.tensor([3, 0])
    some = critic(states, actions, members=chosen)
    torch.testing.assert_close(some, every[:, [3, 0]])


@pytest.mark.parametrize("stack", [(3,), (2, 4)])
def test_layer_norm_is_each_members_own(stack: tuple[int, ...]) -> None:
    """Linear, norm, ReLU, with a gain and a shift that are learnt, against torch.nn."""
    mlp = StackedMLP(stack, [5, 16, 8, 2], generators(stack[0]), layer_norm=True).double()
    with torch.no_grad():
        for norm in mlp.norms:
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    inputs = torch.randn(*stack, 7, 5, dtype=torch.float64)
    outputs = mlp(inputs)
    gradients = torch.autograd.grad(outputs.square().sum(), list(mlp.norms.parameters()))
    for index in torch.cartesian_prod(*map(torch.arange, stack)).reshape(-1, len(stack)).tolist():
        place = tuple(index)
        linears = list(member(mlp, *index)[::2])
        norms = []
        for norm in mlp.norms:
            own = nn.LayerNorm(norm.weight.shape[-1], dtype=torch.float64)
            values = {"weight": norm.weight[place][0], "bias": norm.bias[place][0]}
            own.load_state_dict({name: value.detach() for name, value in values.items()})
            norms.append(own)
        hidden = inputs[place]
        for linear, norm in zip(linears[:-1], norms, strict=True):
            hidden = norm(linear(hidden)).relu()
        expected = linears[-1](hidden)
        torch.testing.assert_close(outputs[place], expected)
        expected.square().sum().backward()
        ours = [each[place][0] for each in gradients]
        theirs = [parameter.grad for norm in norms for parameter in (norm.weight, norm.bias)]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_layer_norm_of_frozen_first_and_chosen_members() -> None:
    critic = StackedCritic(2, 3, 4, 2, [8, 8], generators(2), layer_norm=True)
    with torch.no_grad():
        for norm in critic.mlp.norms:
            norm.weight.uniform_(0.5, 2)
    states, actions = torch.randn(2, 5, 4), torch.randn(2, 5, 2, requires_grad=True)
    whole = critic(states, actions)
    torch.testing.assert_close(critic(states, actions, first=True), whole[:, 0])
    order = torch.tensor([2, 0])
    torch.testing.assert_close(critic(states, actions, members=order), whole[:, order])
    critic(states, actions, frozen=True).sum().backward()
    assert actions.grad is not None
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_without_layer_norm_there_are_no_further_parameters() -> None:
    names = set(dict(StackedMLP((1,), [2, 4, 1], generators(1)).named_parameters()))
    assert names == {f"layers.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}


@pytest.mark.compiles
@pytest.mark.slow
def test_many_rows_stay_in_blocks_when_compiled() -> None:
    """The compiler takes the blocks for one operation, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 700, 5), (2, 5, 8), (2, 1, 8), (2, 8, 3), (2, 1, 3)]
    tensors = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]

    def loss(*given: torch.Tensor) -> torch.Tensor:
        return relu_mlp.ReluMLP.apply(*given).square().mean()

    assert relu_mlp._pays(tensors[0])
    plain = torch.autograd.grad(loss(*tensors), tensors)
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*tensors), tensors)
    torch.testing.assert_close(found, plain)
    inputs, *weights = [each.detach() for each in tensors]
    torch.library.opcheck(relu_mlp._forward_op, (inputs, weights[::2], weights[1::2]))


def test_a_compiled_gradient_is_the_plain_one() -> None:
    """torch 2.11 compiles work in place inside an autograd function to wrong gradients, in
    silence, by tracing alone: no compiled kernel is needed to see it."""
    mlp = StackedMLP([2], [3, 8, 8, 1], generators(2))
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))

    def gradient(inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(mlp(inputs).square().sum(), list(mlp.parameters()))

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(gradient, backend="aot_eager", fullgraph=True)(inputs)
    torch.testing.assert_close(compiled, gradient(inputs))
