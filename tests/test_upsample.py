"""The short way, from fit to samples: what it takes, what it refuses, what it leaves alone."""

import pickle
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gin
import numpy as np
import pytest
import torch

import synther
from synther.datasets import load_dataset
from synther.datasets.digest import content_digest
from synther.diffusion.fidelity.held_out import hold_out
from synther.diffusion.model_io import load_model
from synther.diffusion.training import trainer
from synther.files import checkpoint
from synther.files.checkpoint import CheckpointError
from synther.learning import graphs
from synther.transitions import TransitionError, Transitions
from synther.upsampling import FidelityWarning, UpsampleConfig, Upsampler, command, upsample
from synther.upsampling.config import default_config, resolve_config
from synther.upsampling.verdict import Verdict, judge
from tests.data import random_transitions

TINY = {"width": 16, "num_layers": 1, "dim_t": 8, "steps": 12, "batch_size": 32}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
pytestmark = pytest.mark.filterwarnings("ignore::synther.upsampling.verdict.FidelityWarning")


def related(rows: int, seed: int = 0) -> Transitions:
    """Transitions whose columns hang together: what follows is what was, and the action."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(2, 3, size=(rows, 2))
    actions = np.tanh(rng.normal(size=(rows, 1)))
    following = observations + 3 * actions
    arrays = {"observations": observations, "actions": actions, "next_observations": following}
    return Transitions.from_arrays(
        {**arrays, "rewards": following.sum(axis=1), "terminals": rng.random(rows) < 0.2},
        metadata={"env_id": "Own-v0", "private": "not handed on"},
    )


@pytest.fixture(scope="module")
def fitted() -> Upsampler:
    return Upsampler(TINY, device="cpu", seed=3).fit(related(400))


def assert_equal(a: Transitions, b: Transitions) -> None:
    for name, array in a.arrays().items():
        np.testing.assert_array_equal(array, getattr(b, name), err_msg=name)


def test_the_package_gives_the_function_and_stays_light() -> None:
    script = """
import sys, synther
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert callable(synther.upsample) and synther.upsample.__name__ == "upsample"
assert "Upsampler" in dir(synther)
try:
    synther.downsample
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "module 'synther' has no attribute 'downsample'", done.stderr


def test_the_command_says_a_bad_verdict_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.chdir(tmp_path)
    related(400).save("data.npz")
    words = "data.npz --num 37 --steps 12 --width 16 --consistency off --device cpu"
    command.main(words.split())
    assert capsys.readouterr().err.count("NOT to be trusted") == 1
    assert not [each for each in recwarn if "NOT to be trusted" in str(each.message)]


def test_the_command_that_the_page_of_rows_names_is_understood() -> None:
    page = (Path(__file__).parents[1] / "docs/rows.md").read_text(encoding="utf-8")
    (words,) = re.findall(r"`synther upsample (.+?)`", page)
    chosen = command.build_parser().parse_args(words.split())
    assert (chosen.width, chosen.num_layers, chosen.steps) == (512, 6, 20_000)


def test_a_number_of_layers_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(["data.npz", "--num_layers", "0"])
    assert stopped.value.code == 2
    assert "--num_layers: '0': expected from 1 to 1000" in capsys.readouterr().err


def test_one_call_gives_transitions_that_say_where_they_are_from() -> None:
    with pytest.warns(FidelityWarning, match="NOT to be trusted"):
        samples = synther.upsample(related(400), 37, config=TINY, device="cpu", seed=3)
    assert len(samples) == 37
    assert (samples.observation_dim, samples.action_dim) == (2, 1)
    assert np.abs(samples.actions).max() <= 1
    assert samples.metadata["source"] == "SynthER"
    assert samples.metadata["env_id"] == "Own-v0"
    assert "private" not in samples.metadata
    provenance = samples.metadata["synther"]
    assert (provenance["rows"], provenance["seed"], provenance["steps"]) == (400, 3, 12)
    assert "NOT to be trusted" in provenance["verdict"]


def test_a_setting_that_is_no_argument_is_shown_its_place() -> None:
    place = r"got an unexpected keyword argument 'steps'; settings go by config, such as "
    place += r"config=\{'steps': 30\}"
    with pytest.raises(TypeError, match=f"^Upsampler: {place}"):
        Upsampler(steps=30)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=f"^upsample: {place}"):
        upsample(related(400), 5, steps=30)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^Upsampler\.sample: missing a required argument"):
        Upsampler().sample()  # type: ignore[call-arg]


def test_the_same_seed_gives_the_same_rows_and_another_call_others(fitted: Upsampler) -> None:
    other = Upsampler(TINY, device="cpu", seed=3).fit(related(400))
    first, second = other.sample(20), other.sample(20)
    assert not np.array_equal(first.observations, second.observations)
    assert_equal(fitted.sample(20, seed=5), other.sample(20, seed=5))
    different = Upsampler(TINY, device="cpu", seed=4).fit(related(400))
    assert not np.array_equal(different.sample(20).observations, first.observations)


def test_global_random_numbers_and_gin_play_no_part(fitted: Upsampler) -> None:
    def state() -> tuple[Any, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    before = state()
    with gin.unlock_config():
        gin.parse_config("ResidualMLPDenoiser.layer_norm = True\nTrainer.ema_decay = 0.5")
        gin.parse_config("SimpleDiffusionGenerator.clip_actions = False")
        gin.parse_config("ElucidatedDiffusion.P_mean = 3.0\nTrainer.train_lr = 7.0")
    try:
        bound = gin.config_str()
        under_gin = Upsampler(TINY, device="cpu", seed=3).fit(related(400))
        assert gin.config_str() == bound
    finally:
        gin.clear_config()
    assert state() == before
    assert_equal(under_gin.sample(30, seed=1), fitted.sample(30, seed=1))


def test_saved_loaded_and_pickled_it_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    original = Upsampler(TINY, device="cpu", seed=3).fit(related(400))
    original.sample(5)
    path = original.save(tmp_path / "model.pt")
    for copy in (Upsampler.load(path, "cpu"), pickle.loads(pickle.dumps(original))):
        assert copy.verdict == original.verdict
        assert copy.config == original.config
        twin = pickle.loads(pickle.dumps(original))
        assert_equal(copy.sample(25), twin.sample(25))
        assert_equal(
            copy.refit(related(500), steps=3).sample(9), twin.refit(related(500), steps=3).sample(9)
        )
    loaded = load_model(path)  # the offline commands read it as well
    assert loaded.layout is not None
    assert (loaded.layout.observation_dim, loaded.layout.terminals, loaded.step) == (2, True, 12)


def test_samples_are_made_consistent_unless_that_is_off(tmp_path: Path) -> None:
    """Rewards are positions less actions; 300 steps of a tiny model do not know, regressions do."""
    data = related(600)
    known = replace(data, rewards=data.observations[:, 0] - data.actions[:, 0])
    config = {**TINY, "steps": 300}
    consistent = Upsampler(config, device="cpu", seed=3).fit(known)
    plain = Upsampler({**config, "consistency": "off"}, device="cpu", seed=3).fit(known)
    samples, others = (each.sample(400, seed=1) for each in (consistent, plain))
    wrong = [
        np.abs(each.rewards - (each.observations[:, 0] - each.actions[:, 0])).mean()
        for each in (samples, others)
    ]
    assert wrong[0] < 0.3 * wrong[1]
    assert "rewards" in samples.metadata["synther"]["repairs"]["replaced"]
    assert samples.metadata["synther"]["consistency"] == "ensemble"
    assert "repairs" not in others.metadata["synther"]
    for each in (consistent, plain):
        assert "conditional_ratio" in each.verdict.numbers  # type: ignore[union-attr]

    path = consistent.save(tmp_path / "model.pt")
    assert_equal(Upsampler.load(path, "cpu").sample(30, seed=1), samples.subset(slice(30)))
    payload = checkpoint.load(path)
    del payload["ensemble"], payload["fitted"]["config"]["consistency"]
    earlier = checkpoint.save(tmp_path / "earlier.pt", payload)  # a version without regressions
    assert_equal(Upsampler.load(earlier, "cpu").sample(30, seed=1), others.subset(slice(30)))


def test_without_a_fit_everything_says_so(tmp_path: Path) -> None:
    empty = Upsampler(TINY, device="cpu")
    assert pickle.loads(pickle.dumps(empty)).verdict is None
    for action in (
        lambda: empty.sample(3),
        lambda: empty.refit(related(300)),
        lambda: empty.save(tmp_path / "x.pt"),
    ):
        with pytest.raises(RuntimeError, match=r"call fit\(data\) first"):
            action()
    assert not list(tmp_path.iterdir())


def test_constant_columns_and_flags_come_back_as_they_are() -> None:
    """A constant column came back wrong, which made every verdict turn against the samples."""
    data = related(1000)
    static = np.stack([np.full(1000, 465332.0), np.arange(1000) % 2], axis=1)
    observations, following = (
        np.hstack([each, static]) for each in (data.observations, data.next_observations)
    )
    samples = Upsampler(TINY, device="cpu").fit(
        replace(data, observations=observations, next_observations=following)
    ).sample(300)  # fmt: skip
    for each in (samples.observations, samples.next_observations):
        assert (each[:, 2] == 465332.0).all()
        assert set(each[:, 3]) == {0, 1}
    assert np.array_equal(samples.observations[:, 3], samples.next_observations[:, 3])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"step": 1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"not written by Upsampler.save"):
        Upsampler.load(tmp_path / "x.pt")


def test_a_refit_goes_on_from_the_weights_with_the_normaliser_of_the_new_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upsampler = Upsampler({**TINY, "steps": 40, "learning_rate": 1e-9}, device="cpu")
    upsampler.fit(related(400))
    assert upsampler._fitted is not None
    before = upsampler._fitted.model.net.state_dict()
    seen: list[int] = []
    original = trainer.Trainer.train

    def counted(self: trainer.Trainer, **options: Any) -> None:
        seen.append(self.train_num_steps)
        original(self, **options)

    monkeypatch.setattr(trainer.Trainer, "train", counted)
    moved = replace(related(600), observations=related(600).observations + 100)
    upsampler.refit(moved)
    assert seen == [10]
    for name, value in upsampler._fitted.model.net.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)
    assert upsampler.sample(200).observations.mean() == pytest.approx(102, abs=2)


def test_a_refit_on_other_columns_is_refused() -> None:
    without = replace(related(400), terminals=np.zeros(400, np.float32))
    upsampler = Upsampler(TINY, device="cpu").fit(without)
    with pytest.raises(TransitionError, match="use fit for a new model"):
        upsampler.refit(random_transitions(300))
    with pytest.raises(TransitionError, match="use fit for a new model"):
        upsampler.refit(related(400))


def test_terminals_are_modelled_where_there_are_any_and_actions_keep_their_range() -> None:
    data = related(400)
    wide = replace(data, actions=5 * data.actions, terminals=np.zeros(400, np.float32))
    samples = upsample(wide, 500, config=TINY, device="cpu")
    assert not samples.terminals.any()
    assert 1.5 < np.abs(samples.actions).max() <= np.abs(wide.actions).max()
    marked = upsample(replace(data, terminals=np.ones(400)), 100, config=TINY, device="cpu")
    assert marked.terminals.any()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"observations": np.zeros((400, 4, 4, 3))}, "images.*encode them first"),
    ({"actions": np.zeros(400, np.int64)}, "discrete actions"),
    ({"actions": np.zeros((400, 1), np.int64)}, "discrete actions"),
    ({"actions": np.zeros(400)}, r"'actions' has shape \(400,\), expected \[rows, columns\]"),
    ({"rewards": np.zeros((400, 2))}, r"'rewards' has shape \(400, 2\)"),
    ({"rewards": np.zeros(399)}, "'rewards' has 399 rows"),
    ({"next_observations": np.zeros((400, 3))}, "'next_observations' has 3 columns"),
    ({"rewards": np.where(np.arange(400) == 7, np.nan, 0)}, "not finite in 1 .* first in row 7"),
    ({"terminals": np.full(400, 0.5)}, "expected 0 or 1"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_arrays_are_refused_before_anything_is_trained(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(TransitionError, match=message):
        upsample({**related(400).arrays(), **change}, 10, config=TINY)


def test_other_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TransitionError, match="10 rows, expected 200 or more"):
        upsample(related(10), 10)
    without_terminals = dict(list(related(400).arrays().items())[:-1])
    with pytest.raises(TransitionError, match="missing 'terminals'"):
        upsample(without_terminals, 10)
    with pytest.raises(TypeError, match="int is not known; expected Transitions, a mapping"):
        upsample(7, 10)
    with pytest.raises(FileNotFoundError, match=r"absent.npz: no such file"):
        upsample(tmp_path / "absent.npz", 10)
    with pytest.raises(ValueError, match="num_samples is 0"):
        upsample(related(400), 0)
    with pytest.raises(ValueError, match="device 'gpu'"):
        upsample(related(400), 10, device="gpu")
    with pytest.raises(ValueError, match=re.escape("no setting 'step'; did you mean steps?")):
        upsample(related(400), 10, config={"step": 3})
    with pytest.raises(ValueError, match=r"width is 1.5, expected int"):
        upsample(related(400), 10, config={"width": 1.5})
    with pytest.raises(ValueError, match=r"sampler is 'quick'"):
        upsample(related(400), 10, config={"sampler": "quick"})
    with pytest.raises(ValueError, match="consistency is 'on', expected one of off, ensemble"):
        upsample(related(400), 10, config={"consistency": "on"})
    with pytest.raises(TypeError, match="expected None, a dict"):
        upsample(related(400), 10, config="config/resmlp_denoiser.gin")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_on_a_gpu_the_steps_of_training_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    captures = []
    capture = graphs.Replayed._capture

    def counted(self: Any, inputs: Any, kind: Any) -> None:
        captures.append(kind)
        capture(self, inputs, kind)

    monkeypatch.setattr(graphs.Replayed, "_capture", counted)
    samples = upsample(related(400), 50, config=TINY, device="cuda")
    assert captures == [(32,)]
    assert all(np.isfinite(array).all() for array in samples.arrays().values())


def test_settings_follow_size_and_device_and_what_is_given_wins() -> None:
    assert default_config(20_000, CPU) == UpsampleConfig()
    assert default_config(500_000, CPU).width > UpsampleConfig().width
    paper = default_config(900_000, CUDA)
    assert (paper.width, paper.num_layers, paper.steps) == (2048, 6, 100_000)
    assert (paper.batch_size, paper.learning_rate) == (1024, 3e-4)
    assert default_config(500_000, CUDA).batch_size == 256
    assert resolve_config({"steps": 7}, 20_000, CPU) == UpsampleConfig(steps=7)
    whole = UpsampleConfig(width=8)
    assert resolve_config(whole, 900_000, CUDA) is whole


def test_few_real_rows_alone_are_no_reason_for_distrust() -> None:
    """200 rows are the fewest there may be; chance must not look like a bad model then."""
    blamed = 0
    for seed in range(10):
        data = related(2200, seed=seed)
        verdict = judge(
            data.subset(slice(50, 200)),
            data.subset(slice(0, 50)),
            data.subset(slice(200, None)),
            terminals=True,
        )
        blamed += not verdict.trusted
    assert blamed == 0


@pytest.mark.slow
def test_the_shipped_data_can_be_upsampled_and_trusted() -> None:
    upsampler = Upsampler({"steps": 4000}, device="cpu").fit("hopper-demo-v0")
    assert upsampler.verdict is not None
    assert upsampler.verdict.trusted, upsampler.verdict
    samples = upsampler.sample(5000)
    assert samples.metadata["env_id"] == "Hopper-v2"
    real = load_dataset("hopper-demo-v0")
    np.testing.assert_allclose(
        samples.observations.mean(axis=0), real.observations.mean(axis=0), atol=0.3
    )


def test_actions_are_in_the_units_that_are_said_or_those_of_the_environment(
    tmp_path: Path,
) -> None:
    data = related(400)
    wide = replace(data, actions=3 * data.actions)
    said = Upsampler(TINY, device="cpu", action_low=-4, action_high=4).fit(wide)
    assert said.sample(50).metadata["action_high"] == [4.0] * data.action_dim
    loaded = Upsampler.load(said.save(tmp_path / "m.pt"))
    assert loaded.fit(wide).sample(5).action_bounds is not None
    learnt = load_model(tmp_path / "m.pt").trained_on
    assert learnt is not None
    assert learnt.action_low == [-4.0] * data.action_dim
    stating = replace(wide, metadata={"action_low": -3, "action_high": 3})
    assert upsample(stating, 300, config=TINY).metadata["action_low"] == [-3.0] * data.action_dim
    assert 1 < np.abs(upsample(stating, 300, config=TINY).actions).max() <= 3


def test_a_file_of_an_earlier_version_keeps_its_actions_range(tmp_path: Path) -> None:
    data = related(400)
    upsampler = Upsampler(TINY, device="cpu").fit(replace(data, actions=3 * data.actions))
    payload = checkpoint.load(upsampler.save(tmp_path / "m.pt"))
    del payload["trained_on"], payload["upsampler"]["action_bounds"]
    checkpoint.save(tmp_path / "m.pt", payload)
    learnt = load_model(tmp_path / "m.pt").trained_on
    assert learnt is not None
    assert learnt.action_low is None
    assert np.abs(learnt.samples_high).max() > 1
    assert len(Upsampler.load(tmp_path / "m.pt").sample(20)) == 20


def test_what_is_called_held_out_was_never_trained_on() -> None:
    """A refit draws the held-out rows again, of which the model may have learnt some before."""
    data = related(400)
    upsampler = Upsampler(TINY, device="cpu").fit(data)
    assert upsampler.verdict is not None
    assert upsampler.verdict.unseen
    samples = upsampler.sample(20)
    learnt = samples.metadata["trained_on"]
    _, held_out = hold_out(data, learnt["held_out"], learnt["seed"])
    assert learnt["digest"] == content_digest(data)
    assert held_out is not None
    assert len(held_out) == 50
    upsampler.refit(data, steps=5)
    assert not upsampler.verdict.unseen
    assert "held_out" not in upsampler.sample(20).metadata["trained_on"]
    trusted = Verdict(numbers={"marginal": 1.0, "real_marginal": 1.0}, unseen=False)
    assert str(trusted).startswith("the samples look like real rows that it may have seen:")
    assert not Verdict.from_plain(trusted.to_plain()).unseen
