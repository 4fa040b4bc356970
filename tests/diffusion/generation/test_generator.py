import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import gin
import numpy as np
import pytest
import torch

from synther.diffusion.generation.generator import SamplingError, SimpleDiffusionGenerator
from synther.diffusion.generation.npz_stream import NpzStream
from synther.diffusion.provenance import Provenance
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions
from tests.diffusion.models import LAYOUT, tiny_model


class RecordedModel:
    """Gives rows of wide normal noise, and can be told to fail."""

    sampler, sampler_arguments = "none", {}
    sigma_min, sigma_max, rho = 0.002, 80.0, 7.0
    device = torch.device("cpu")

    def __init__(self, dim=10, fail_at=None, layout=None):
        self.event_shape = (dim,)
        self.layout = layout
        self.fail_at = fail_at
        self.calls = []

    def sample(self, batch_size, num_sample_steps, *, noise):
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(batch_size)
        return 2 * noise(0)

    def state_dict(self):
        return {"weight": torch.ones(2)}


def generator_of(model, **options):
    env = options.pop("env", LAYOUT)
    return SimpleDiffusionGenerator(env, model, **{"sample_batch_size": 30, **options})


@pytest.mark.parametrize(("count", "calls"), [(1, [1]), (30, [30]), (77, [30, 30, 17])])
def test_any_count(count, calls):
    model = RecordedModel()
    arrays = generator_of(model).sample(count, seed=0)
    assert [a.shape for a in arrays] == [(count, 3), (count, 2), (count,), (count, 3), (count,)]
    assert all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)
    assert model.calls == calls


def test_a_real_model_gives_what_it_samples():
    model = tiny_model()
    generator = generator_of(model, num_sample_steps=4, clip_actions=False)
    rows = generator.sample_rows(20, torch.Generator().manual_seed(1))
    raw = model.sample(20, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rows[:, :9], raw[:, :9])
    assert torch.equal(rows[:, 9], (raw[:, 9] > 0.5).float())


def test_terminals_are_zero_or_one_and_actions_inside():
    """Fault of the 2023 release: synthetic actions outside the action space."""
    _, actions, _, _, terminals = generator_of(RecordedModel()).sample(300, seed=0)
    assert set(np.unique(terminals)) == {0, 1}
    assert np.abs(actions).max() == 1
    _, free, _, _, _ = generator_of(RecordedModel(), clip_actions=False).sample(300, seed=0)
    assert np.abs(free).max() > 2
    np.testing.assert_array_equal(np.clip(free, -1, 1), actions)


SPACE = SimpleNamespace(shape=(2,), low=np.array([-0.4, -2]), high=np.array([0.4, 3]))
ENV = SimpleNamespace(observation_space=SimpleNamespace(shape=(3,)), action_space=SPACE)
WITHOUT = TransitionLayout(3, 2, terminals=False)


@pytest.mark.parametrize("terminals", [False, True])
@pytest.mark.parametrize("said_by", ["gin", "the model"])
def test_an_environment_gives_columns_and_bounds_but_not_whether_terminals_are_modelled(
    terminals, said_by
):
    layout = TransitionLayout(3, 2, terminals)
    if said_by == "gin":
        gin.parse_config(
            f"modelled_terminals = {terminals}\n"
            "split_diffusion_samples.modelled_terminals = %modelled_terminals"
        )
        model = RecordedModel(layout.row_dim)
    else:
        gin.parse_config(f"split_diffusion_samples.modelled_terminals = {not terminals}")
        model = RecordedModel(layout.row_dim, layout=layout)
    generator = generator_of(model, env=ENV)
    assert generator.layout == layout
    _, actions, _, _, flags = generator.sample(500, seed=0)
    np.testing.assert_allclose(actions.min(0), [-0.4, -2])
    np.testing.assert_allclose(actions.max(0), [0.4, 3])
    assert bool(flags.any()) == terminals


def test_whether_terminals_are_modelled_is_not_guessed_from_the_width():
    # Without a word from anyone there is a terminal column, as in the 2023 release.
    with pytest.raises(ValueError, match=r"have 9 columns.*has 10.*modelled_terminals = False"):
        generator_of(RecordedModel(9), env=ENV)
    # As many columns as this environment's rows have without a terminal, but of another one.
    model = RecordedModel(9, layout=TransitionLayout(3, 1))
    with pytest.raises(ValueError, match=r"are .*action_dim=1.*expected .*action_dim=2"):
        generator_of(model, env=ENV)
    with pytest.raises(ValueError, match=r"action_dim=1.*expected .*action_dim=2"):
        generator_of(model, env=WITHOUT)


@pytest.mark.parametrize("env", [WITHOUT, ENV])
def test_bounds_that_are_given_go_before_the_environments(env):
    model = RecordedModel(9, layout=WITHOUT)
    bounds = ([-0.5, -1.5], [0.25, 2.0])
    _, actions, _, _, _ = generator_of(model, env=env, action_bounds=bounds).sample(500, seed=0)
    np.testing.assert_array_equal(actions.min(0), bounds[0])
    np.testing.assert_array_equal(actions.max(0), bounds[1])
    _, actions, _, _, _ = generator_of(model, env=env, action_bounds=(-0.5, 2)).sample(500, seed=0)
    np.testing.assert_array_equal(actions.min(0), [-0.5, -0.5])
    np.testing.assert_array_equal(actions.max(0), [2, 2])


def test_seeds_govern_the_rows():
    generator = generator_of(RecordedModel())
    first, again, other = (generator.sample(50, seed=s)[0] for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 50
    torch.manual_seed(7)
    drawn = generator.sample(50)[0]
    torch.manual_seed(7)
    assert np.array_equal(drawn, generator.sample(50)[0])


@pytest.mark.parametrize("batch", [1000, 100, 7])
def test_rows_do_not_depend_on_the_batches(batch):
    """A row's noise is its own: bit-equal where a row is its noise, otherwise up to the rounding
    of products, however the count is split."""
    noises = generator_of(RecordedModel(), sample_batch_size=1000).sample(1000, seed=3)
    split = generator_of(RecordedModel(), sample_batch_size=batch).sample(1000, seed=3)
    for one, other in zip(noises, split, strict=True):
        assert np.array_equal(one, other)
    for sampler in ("heun_stochastic", "restart"):
        options = {"sampler": sampler, "num_sample_steps": 12, "clip_actions": False}
        model = tiny_model()
        whole = generator_of(model, sample_batch_size=1000, **options).sample(1000, seed=3)[0]
        parts = generator_of(model, sample_batch_size=batch, **options).sample(1000, seed=3)[0]
        np.testing.assert_allclose(parts, whole, rtol=0, atol=2e-3 * whole.std())


def test_a_longer_run_begins_with_the_rows_of_a_shorter_one():
    generator = generator_of(RecordedModel(), sample_batch_size=900)
    few, many = (generator.sample(count, seed=3)[0] for count in (700, 3000))
    assert np.array_equal(few, many[:700])
    assert len(np.unique(many, axis=0)) == 3000


@pytest.mark.parametrize("compress", [False, True])
def test_file_equals_memory(tmp_path, compress):
    generator = generator_of(RecordedModel())
    path = tmp_path / "deep" / "samples.npz"
    generator.sample_to_file(77, path, seed=4, compress=compress, metadata={"env_id": "Hopper-v2"})
    loaded = Transitions.load(path)
    for found, expected in zip(loaded.arrays().values(), generator.sample(77, seed=4), strict=True):
        assert np.array_equal(found, expected)
    assert loaded.metadata["env_id"] == "Hopper-v2"
    assert loaded.metadata["generator"]["seed"] == 4
    assert [p.name for p in path.parent.iterdir()] == ["samples.npz"]


@pytest.mark.parametrize(("batch", "calls"), [(30, [30, 30, 30, 20]), (50, [50, 50, 10])])
def test_interrupted_file_continues(tmp_path, batch, calls):
    path = tmp_path / "samples.npz"
    with pytest.raises(KeyboardInterrupt):
        generator_of(RecordedModel(fail_at=3)).sample_to_file(200, path, seed=4)
    assert not path.exists()
    model = RecordedModel()
    generator_of(model, sample_batch_size=batch).sample_to_file(200, path, seed=4)
    assert model.calls == calls  # 90 rows were there
    expected = generator_of(RecordedModel()).sample(200, seed=4)
    for found, values in zip(Transitions.load(path).arrays().values(), expected, strict=True):
        assert np.array_equal(found, values)


@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"steps": 7}, {"clip": False}, {"rows": 190}, {"bounds": (-0.5, 0.5)}],
)
def test_other_settings_start_over(tmp_path, change):
    path = tmp_path / "samples.npz"
    with pytest.raises(KeyboardInterrupt):
        generator_of(RecordedModel(fail_at=3)).sample_to_file(200, path, seed=4)
    model = RecordedModel()
    generator = generator_of(
        model,
        num_sample_steps=change.get("steps", 128),
        clip_actions=change.get("clip", True),
        action_bounds=change.get("bounds"),
    )
    rows, seed = change.get("rows", 200), change.get("seed", 4)
    generator.sample_to_file(rows, path, seed=seed)
    assert sum(model.calls) == rows
    found = Transitions.load(path).actions
    assert np.array_equal(found, generator.sample(rows, seed=seed)[1])


def test_rows_that_are_not_finite_are_never_written(tmp_path):
    model = RecordedModel()
    honest = model.sample

    def broken(*args, **options):
        rows = honest(*args, **options)
        if len(model.calls) == 2:
            rows[5, 3] = torch.nan
        return rows

    model.sample = broken
    path = tmp_path / "samples.npz"
    with pytest.raises(SamplingError, match=r"1 of 30 .* row 5"):
        generator_of(model).sample_to_file(77, path, seed=0)
    assert not path.exists()


def test_a_disk_that_fails_is_reported_and_nothing_is_left_as_if_whole(tmp_path, monkeypatch):
    """The writer is a thread of its own: what goes wrong there must stop the sampling."""
    model = RecordedModel()

    def full(stream, rows):
        raise OSError("no space left on device")

    monkeypatch.setattr(NpzStream, "append", full)
    path = tmp_path / "samples.npz"
    with pytest.raises(OSError, match="no space left"):
        generator_of(model).sample_to_file(300, path, seed=0)
    assert len(model.calls) <= 3
    assert not path.exists()


def test_memory_does_not_grow_with_the_rows(tmp_path):
    generator = generator_of(RecordedModel(), sample_batch_size=2000)
    generator.sample_to_file(2000, tmp_path / "warm.npz", seed=0)
    tracemalloc.start()
    try:
        generator.sample_to_file(200_000, tmp_path / "large.npz", seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    whole = 200_000 * 10 * 4
    assert (tmp_path / "large.npz").stat().st_size > whole
    # Numpy's share: one batch of 80 kB, and the block of 1 MB in which files are joined.
    assert peak < 0.5 * whole


def test_low_precision_leaves_the_model_alone():
    model = tiny_model()
    low = generator_of(model, precision="bf16", num_sample_steps=8)
    high = generator_of(model, num_sample_steps=8)
    assert model.net.proj.weight.dtype == torch.float32
    first, second = low.sample(300, seed=1)[0], high.sample(300, seed=1)[0]
    assert not np.array_equal(first, second)
    assert np.abs(first - second).mean() < 0.05 * second.std()


def test_a_preset_or_a_samplers_name_replaces_the_models_sampler():
    model = tiny_model()
    paper = generator_of(model, sampler="paper", num_sample_steps=9)
    assert (paper.num_sample_steps, paper.model.sampler) == (128, "heun_stochastic")
    other = generator_of(model, sampler="dpmpp_2m", num_sample_steps=9)
    assert (other.num_sample_steps, other.model.sampler) == (9, "dpmpp_2m")
    assert model.sampler == "heun_stochastic"
    model.sampler = "dpmpp_2m"
    expected = generator_of(model, num_sample_steps=9).sample(40, seed=0)[0]
    assert np.array_equal(other.sample(40, seed=0)[0], expected)
    with pytest.raises(ValueError, match="sampler 'euler': expected one of paper, fast, heun"):
        generator_of(model, sampler="euler")


def test_gin_chooses_the_sampler():
    gin.parse_config("SimpleDiffusionGenerator.sampler = 'restart'")
    assert generator_of(tiny_model()).model.sampler == "restart"


def test_graphs_need_a_gpu():
    with pytest.raises(ValueError, match="needs a CUDA device"):
        generator_of(tiny_model(), cuda_graph=True)


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", ["heun_stochastic", "restart"])
def test_a_graphed_step_gives_the_plain_ones_rows(sampler):
    """Also for a shorter last batch, and with fresh noise at each step and call."""
    model = tiny_model().to("cuda")
    options = {"sampler": sampler, "num_sample_steps": 12, "clip_actions": False}
    plain = generator_of(model, **options).sample(77, seed=1)[0]
    graphed = generator_of(model, cuda_graph=True, **options)
    found = graphed.sample(77, seed=1)[0]
    np.testing.assert_allclose(found, plain, rtol=0, atol=2e-3 * plain.std())
    assert np.array_equal(graphed.sample(77, seed=1)[0], found)
    assert not np.array_equal(graphed.sample(77, seed=2)[0], found)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="11 columns"):
        generator_of(RecordedModel(11))
    with pytest.raises(ValueError, match="sample_batch_size is 0"):
        generator_of(RecordedModel(), sample_batch_size=0)
    with pytest.raises(ValueError, match="num_samples is 0"):
        generator_of(RecordedModel()).sample_to_file(0, "never.npz")


def test_a_model_knows_the_bounds_of_its_samples() -> None:
    """Those of its data; an argument goes over them, and they over an environment's space."""
    bounds = {"action_low": [-0.2, 0.5], "action_high": [0.2, 5.0]}
    model = tiny_model()
    model.trained_on = Provenance.of(replace(random_transitions(50), metadata=bounds))
    space = SimpleNamespace(shape=(2,), low=-np.ones(2), high=np.ones(2))
    env = SimpleNamespace(observation_space=SimpleNamespace(shape=(3,)), action_space=space)
    for place in (LAYOUT, env):
        actions = SimpleDiffusionGenerator(place, model, 3).sample(300, seed=0)[1]
        np.testing.assert_allclose(actions.min(axis=0), [-0.2, 0.5], atol=1e-6)
        np.testing.assert_allclose(actions.max(axis=0)[0], 0.2, atol=1e-6)
        assert actions.max() > 1
    given = SimpleDiffusionGenerator(LAYOUT, model, 3, action_bounds=(-0.1, 0.1))
    assert np.abs(given.sample(100, seed=0)[1]).max() <= np.float32(0.1)
