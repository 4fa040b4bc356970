"""Guidance, and a conditional model from training to samples."""

import copy
import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from synther.diffusion import model_io
from synther.diffusion.conditioning.condition import Condition, ConditionError
from synther.diffusion.conditioning.guidance import Guided
from synther.diffusion.conditioning.values import values_of, with_values
from synther.diffusion.elucidated_diffusion import ElucidatedDiffusion
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.generation.presets import SAMPLER_NAMES
from synther.diffusion.training.redq_trainer import REDQTrainer
from synther.diffusion.training.step import COND_DROPOUT
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model
from synther.errors import InputError
from synther.transitions import TransitionLayout, Transitions
from tests.diffusion.models import LAYOUT, TINY, random_rows, tiny_model

REWARD = LAYOUT.columns["rewards"].start
LAW = Path(__file__).parents[3] / "benchmarks/known_law.py"


def conditional_model(normalizer: str = "standard") -> ElucidatedDiffusion:
    rows = random_rows()
    condition = Condition.of("reward", rows[:, REWARD])
    torch.manual_seed(0)
    return construct_diffusion_model(
        rows, normalizer, TINY, disable_terminal_norm=True, layout=LAYOUT, condition=condition
    )


@pytest.fixture(scope="module")
def model() -> ElucidatedDiffusion:
    return conditional_model().eval().requires_grad_(False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Recorder:
    """A linear denoiser that notes what it was asked."""

    def __init__(self) -> None:
        self.conds: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: float, cond: Tensor | None) -> Tensor:
        assert cond is not None
        self.conds.append(cond)
        return sigma * x + 3 * cond[:, :1]


@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_the_wrapper_is_the_formula(weight: float) -> None:
    x, cond = torch.randn(4, 3), torch.randn(4, 2)
    plain, recorder = Recorder(), Recorder()
    without, asked = plain(x, 0.5, torch.zeros(4, 2)), plain(x, 0.5, cond)
    found = Guided(recorder, cond, weight)(x, 0.5)
    torch.testing.assert_close(found, without + weight * (asked - without))
    assert len(recorder.conds) == (1 if weight in (0, 1) else 2)


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_weights_1_and_0_are_the_plain_paths(model: ElucidatedDiffusion, sampler: str) -> None:
    """Bit for bit, in every sampler and preset; other weights differ from both."""
    generator = SimpleDiffusionGenerator(LAYOUT, model, 6, sampler=sampler, clip_actions=False)
    twin = generator.model
    condition = model.condition
    assert condition is not None
    raw = condition.asked(0.5, 8)

    def through_network(cond: Tensor) -> Tensor:
        """The sampler on a model without a condition, whose network has ``cond`` built in."""
        bare = copy.deepcopy(twin)
        bare.condition = None
        network = bare.net

        class Fixed(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = network

            def forward(self, x: Tensor, c_noise: Tensor, _: Tensor | None = None) -> Tensor:
                return self.inner(x, c_noise, cond)

        bare.net = Fixed()
        return bare.sample(8, generator.num_sample_steps, generator=seeded())

    asked = {"cond": condition.encode(raw), "generator": None}
    drawn = {}
    for weight in (0.0, 1.0, 2.0):
        options = {**asked, "generator": seeded(), "guidance": weight}
        drawn[weight] = twin.sample(8, generator.num_sample_steps, **options)
    assert torch.equal(drawn[1.0], through_network(condition.encode(raw)))
    assert torch.equal(drawn[0.0], through_network(torch.zeros(8, condition.dim)))
    assert torch.equal(drawn[0.0], twin.sample(8, generator.num_sample_steps, generator=seeded()))
    assert not torch.equal(drawn[2.0], drawn[1.0])
    assert not torch.equal(drawn[1.0], drawn[0.0])


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_calls_that_each_weight_costs(model: ElucidatedDiffusion, sampler: str) -> None:
    """Counted at the network, of a request: as often as without a target where guidance is off, and
    twice as often where it is on, which is the issue's 2.2 times at most."""
    calls: list[int] = []
    generator = SimpleDiffusionGenerator(LAYOUT, model, 6, sampler=sampler)
    hook = generator.model.net.register_forward_hook(lambda *_: calls.append(1))

    def count(**asked: float) -> int:
        calls.clear()
        generator.sample(5, 0, **asked)  # type: ignore[arg-type]
        return len(calls)

    plain = count()
    assert count(cond=0.5) == count(cond=0.5, guidance=0.0) == plain
    assert count(cond=0.5, guidance=2.0) == 2 * plain
    hook.remove()


def test_guided_samples_stay_in_the_range_of_model_space() -> None:
    model = conditional_model("minmax").eval()
    assert model.condition is not None
    cond = model.condition.encode(model.condition.asked("top 10%", 40))
    samples = model.sample(40, 8, cond=cond, guidance=30.0, generator=seeded())
    rows = torch.from_numpy(random_rows())
    inside = (samples >= rows.amin(0) - 1e-3) & (samples <= rows.amax(0) + 1e-3)
    assert inside[:, :-1].all()


def test_a_share_of_the_rows_is_trained_without_its_condition() -> None:
    """Counted at the network: 1/4 of 3 200 masks, within four standard errors; the others hold what
    the map of the condition says of their row."""
    rows = random_rows()
    model = conditional_model()
    condition = model.condition
    assert condition is not None
    seen: list[tuple[Tensor, Tensor]] = []
    forward = model.forward

    def watch(inputs: Tensor, cond: Tensor | None = None, **options: Tensor) -> Tensor:
        assert cond is not None
        seen.append((inputs, cond))
        return forward(inputs, cond, **options)

    joined = np.concatenate([rows, rows[:, REWARD : REWARD + 1]], axis=1)
    settings = {"train_num_steps": 50, "small_batch_size": 64, "seed": 1, "device": "cpu"}
    trainer = Trainer(model, joined, results_folder=None, resume_every=None, **settings)
    trainer.training_step.model.forward = watch  # type: ignore[method-assign]
    trainer.train()
    inputs, cond = (torch.cat(each) for each in zip(*seen, strict=True))
    mask = cond[:, 1]
    assert set(mask.tolist()) == {0.0, 1.0}
    count = len(mask)
    error = (COND_DROPOUT * (1 - COND_DROPOUT) / count) ** 0.5
    assert abs(float(1 - mask.mean()) - COND_DROPOUT) < 4 * error
    values = rows[:, REWARD].astype(np.float64)
    expected = (inputs[:, REWARD].double() - values.mean()) / values.std()
    torch.testing.assert_close(cond[:, 0].double(), expected * mask, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all_of_the_rows_cannot_be_without_it(share: float) -> None:
    """Nothing trains the unconditional network, or the conditional one."""
    with pytest.raises(ValueError, match=rf"cond_dropout is {share}, expected more than 0"):
        Trainer(conditional_model(), random_rows(), results_folder=None, cond_dropout=share)
    with pytest.raises(ValueError, match=rf"cond_dropout is {share}, expected more than 0"):
        REDQTrainer(conditional_model(), results_folder=None, cond_dropout=share)


def test_rows_without_the_columns_of_the_condition_are_refused() -> None:
    trainer = Trainer(
        conditional_model(), random_rows(), results_folder=None, resume_every=None, device="cpu"
    )
    with pytest.raises(ValueError, match="columns of the condition 'reward'"):
        trainer.train(1)


def test_the_checkpoint_names_and_describes_the_condition(tmp_path: Path) -> None:
    model = conditional_model()
    joined = np.concatenate([random_rows(), random_rows()[:, REWARD : REWARD + 1]], axis=1)
    settings = {"train_num_steps": 3, "seed": 1, "device": "cpu"}
    Trainer(model, joined, results_folder=tmp_path, **settings).train()
    loaded = model_io.load_model(tmp_path / "model-3.pt")
    assert loaded.config["condition"]["name"] == "reward"
    assert loaded.model.condition == model.condition
    assert "condition" not in model_io.describe(tiny_model())
    assert set(tiny_model().state_dict()) == set(model.state_dict())


def test_resuming_gives_the_same_bits(tmp_path: Path) -> None:
    joined = np.concatenate([random_rows(), random_rows()[:, REWARD : REWARD + 1]], axis=1)
    options = {"train_num_steps": 20, "small_batch_size": 16, "seed": 1, "device": "cpu"}
    whole = Trainer(conditional_model(), joined, results_folder=None, **options)
    whole.train()
    first = Trainer(conditional_model(), joined, results_folder=tmp_path, **options)
    first.train(9)
    second = Trainer(conditional_model(), joined, results_folder=tmp_path, **options)
    second.load_latest()
    second.train()
    for name, weight in whole.diffusion_model.state_dict().items():
        assert torch.equal(weight, second.diffusion_model.state_dict()[name]), name


def test_a_row_is_asked_for_the_same_in_every_batch_and_file(
    model: ElucidatedDiffusion, tmp_path: Path
) -> None:
    small = partial(SimpleDiffusionGenerator, LAYOUT, model, 4)
    whole = small(sample_batch_size=100).sample(30, 5, "top 20%", 2.0)
    parts = small(sample_batch_size=7).sample(30, 5, "top 20%", 2.0)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    own = small(sample_batch_size=100, target="top 20%", guidance=2.0)
    own.sample_to_file(30, tmp_path / "samples.npz", seed=5)
    written = Transitions.load(tmp_path / "samples.npz")
    np.testing.assert_array_equal(written.observations, whole[0])
    asked = written.metadata["generator"]["asked"]
    assert asked == {"condition": "reward", "target": "top 20%", "guidance": 2.0}
    at_once = small().sample_rows(6, seeded(), cond=np.full(6, 0.5))
    assert at_once.shape == (6, LAYOUT.row_dim)


def test_what_a_model_cannot_be_asked_for(model: ElucidatedDiffusion) -> None:
    plain = SimpleDiffusionGenerator(LAYOUT, tiny_model().eval(), 4)
    with pytest.raises(ConditionError, match="the model has no condition"):
        plain.sample(3, cond=1.0)
    with pytest.raises(ConditionError, match="no target to guide to"):
        plain.sample(3, guidance=2.0)
    with pytest.raises(ConditionError, match="above the trained range"):
        SimpleDiffusionGenerator(LAYOUT, model, target=1e9)
    with pytest.raises(InputError, match="guidance is nan"):
        SimpleDiffusionGenerator(LAYOUT, model, guidance=float("nan"))


# ---- The known law ----
@pytest.fixture(scope="module")
def law() -> ModuleType:
    spec = importlib.util.spec_from_file_location("known_law", LAW)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def learnt(law: ModuleType) -> SimpleDiffusionGenerator:
    data = law.collect(8000, seed=1)
    layout = TransitionLayout.of(data)
    rows, condition = with_values(layout.pack(data), values_of("reward", data))
    torch.manual_seed(0)
    model = construct_diffusion_model(
        rows[:, : layout.row_dim],
        "transitions",
        partial(TINY, mlp_width=128, dim_t=64, num_layers=3),
        layout=layout,
        condition=condition,
    )
    settings = {"train_num_steps": 2000, "train_lr": 1e-3, "small_batch_size": 256}
    trainer = Trainer(model, rows, results_folder=None, seed=0, device="cpu", **settings)
    trainer.train()
    return SimpleDiffusionGenerator(layout, trainer.ema.ema_model.eval(), sampler="fast")


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("target", [-0.5, 0.4, 0.8])
def test_samples_move_where_they_are_asked_to(
    law: ModuleType, learnt: SimpleDiffusionGenerator, target: float, guidance: float
) -> None:
    """The mean reward is within 5 % of the target, and what the law says of the other columns,
    whose noise does not depend on the reward's, holds as it does in samples as they come. (A weight
    above 1 goes beyond the condition's own distribution, so that the law need not hold.)"""
    asked = Transitions(*learnt.sample(1500, 1, target, guidance))
    assert abs(asked.rewards.mean() - target) < 0.05 * abs(target)
    if guidance > 1:
        return
    found, free = law.residuals(asked), law.residuals(Transitions(*learnt.sample(1500, 1)))
    for name in ("position", "velocity", "temperature"):
        assert abs(found[name].mean() - free[name].mean()) < 0.3, name
        assert 0.75 < found[name].std() / free[name].std() < 1.25, name


def test_samples_as_they_come_are_those_of_the_data(
    law: ModuleType, learnt: SimpleDiffusionGenerator
) -> None:
    rewards = learnt.sample(1500, 1)[2]
    data = law.collect(8000, seed=1).rewards
    assert abs(rewards.mean() - data.mean()) < 0.3 * data.std()
    assert 0.75 < rewards.std() / data.std() < 1.25
