"""The short way to samples that are asked for something."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import synther
from synther.datasets import DatasetNotFoundError, with_action_bounds
from synther.diffusion.conditioning.values import return_to_go
from synther.diffusion.generation.consistency import ConsistentRows
from synther.transitions import TransitionError, Transitions
from synther.upsampling import ConditionError, UpsampleConfig, Upsampler, command
from synther.upsampling.learning import Round, parts_of
from tests.data import random_transitions
from tests.diffusion.conditioning.test_values import episodes
from tests.test_upsample import TINY, assert_equal

pytestmark = pytest.mark.filterwarnings("ignore::synther.upsampling.verdict.FidelityWarning")
OPTIONS = {"config": TINY, "device": "cpu", "seed": 3}
REAL = episodes([60, 80, 70, 90], ["terminal", "timeout", "terminal", "timeout"])


@pytest.fixture(scope="module")
def data() -> Transitions:
    return REAL


@pytest.fixture(scope="module")
def fitted(data: Transitions) -> Upsampler:
    return Upsampler({**TINY, "condition": "return"}, device="cpu", seed=3).fit(data)


def test_one_call_asks_for_a_return(data: Transitions, fitted: Upsampler) -> None:
    samples = synther.upsample(data, 20, condition="return", target="top 10%", **OPTIONS)
    asked = samples.metadata["synther"]["asked"]
    assert asked == {"condition": "return", "target": "top 10%", "guidance": 1.0}
    again = fitted.sample(20, samples.metadata["synther"]["sample_seed"], target="top 10%")
    assert_equal(samples, again)


def test_the_condition_is_of_all_rows_in_their_order(data: Transitions, fitted: Upsampler) -> None:
    """A part of the rows is held out at random, and the return is nevertheless that of whole
    episodes: the trained range is that of the training rows' returns."""
    assert fitted._fitted is not None
    condition = fitted._fitted.model.condition
    assert condition is not None
    returns = return_to_go(data, 0.99)
    nearest = np.abs(returns[:, None] - np.array(condition.quantiles)[[0, -1]]).min(axis=0)
    np.testing.assert_allclose(nearest, 0, atol=1e-12)
    assert "discounted by 0.99" in condition.about


def test_weights_of_guidance(fitted: Upsampler) -> None:
    free = fitted.sample(15, 7)
    assert_equal(free, fitted.sample(15, 7, target=0.0, guidance=0.0))
    plain = fitted.sample(15, 7, target=0.0)
    assert_equal(plain, fitted.sample(15, 7, target=np.zeros(15), guidance=1.0))
    for other in (free, fitted.sample(15, 7, target=0.0, guidance=2.0)):
        assert not np.array_equal(plain.observations, other.observations)
    assert "asked" not in free.metadata["synther"]


def test_it_is_saved_with_its_condition(fitted: Upsampler, tmp_path) -> None:
    expected = fitted.sample(9, 1, target=0.5, guidance=2.0)
    loaded = Upsampler.load(fitted.save(tmp_path / "model.pt"), device="cpu")
    for twin in (loaded, pickle.loads(pickle.dumps(fitted))):
        assert_equal(expected, twin.sample(9, 1, target=0.5, guidance=2.0))


def test_labels_and_values_of_ones_own(data: Transitions) -> None:
    labels = np.array(["offline"] * 140 + ["online"] * 160)
    upsampler = Upsampler({**TINY, "condition": "source"}, device="cpu").fit(data, labels)
    assert len(upsampler.sample(5, target="online")) == 5
    with pytest.raises(ConditionError, match="no label 'expert', it has offline, online"):
        upsampler.sample(5, target="expert")
    with pytest.raises(ConditionError, match="is not that of the present model"):
        copy.deepcopy(upsampler).refit(data, 3, values=np.arange(300.0))
    upsampler.refit(data, 3, values=labels)
    config = UpsampleConfig(**TINY)
    samples = synther.upsample(
        data, 5, config=config, device="cpu", condition="row", target=3.0, values=np.arange(300)
    )
    assert samples.metadata["synther"]["asked"]["condition"] == "row"


def test_a_model_without_a_condition_is_what_it_was(data: Transitions) -> None:
    """Neither its description nor its weights say a word of conditions."""
    payload = Upsampler(TINY, device="cpu", seed=3).fit(data).__getstate__()
    assert "condition" not in payload["config"]
    assert payload["config"]["network_arguments"]["cond_dim"] is None
    assert not any("condition" in name for name in payload["ema"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"condition": "return"}, ConditionError, "has no target: say what to ask for"),
        ({"target": 1.0}, ConditionError, "has no condition: say what it is of"),
        ({"condition": "retrun", "target": 1.0}, ConditionError, "did you mean return"),
        ({"condition": "reward", "target": 1e6}, ConditionError, "above the trained range"),
        ({"values": np.zeros(300)}, ConditionError, "config names no condition"),
        ({"guidance": 2.0}, ConditionError, "no target to guide to"),
        ({"around": "/nowhere/missing.npz"}, DatasetNotFoundError, "missing"),
        ({"around": random_transitions(20)}, TransitionError, "around: .* has 3 observation and 2"),
        ({"around": REAL.subset(slice(0, 0))}, TransitionError, "around: .* has no rows"),
        ({"around": REAL, "noise": 0}, ValueError, "noise is 0, expected more than 0"),
        ({"around": REAL, "guidance": 2.0}, ConditionError, "no target to guide to"),
        (
            {"around": REAL, "guidance": 2.0, "condition": "source", "values": [*"ab"] * 150},
            ConditionError,
            "'source' has labels, which nothing amplifies: give a target, one of a, b, or",
        ),
        ({"noise": 0.3}, ConditionError, "noise is 0.3, and there are no rows to begin at"),
        (
            {"around": REAL.subset(np.arange(300)[::-1]), "condition": "return"},
            TransitionError,
            "do not lie in the order of their episodes",
        ),
        (
            {"around": REAL.subset(slice(20)), "condition": "own", "values": np.arange(300)},
            ConditionError,
            "around are 20 rows, and values are those of the 300 rows of the data, which are other",
        ),
        (
            {
                "around": REAL.subset(np.arange(300)[::-1]),
                "condition": "own",
                "values": np.arange(300),
            },
            ConditionError,
            "around are 300 rows, and values are those of the 300 rows of the data, which are othe",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_said_before_training(
    data: Transitions, options: dict, error: type, message: str, monkeypatch
) -> None:
    monkeypatch.setattr("synther.upsampling.learning.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(error, match=message):
        synther.upsample(data, 3, **OPTIONS, **options)


def test_what_only_held_out_rows_have_is_not_asked_for(data: Transitions, monkeypatch) -> None:
    """A number or a label that the model does not see: which rows these are is known before."""
    upsampler = Upsampler({**TINY, "condition": "own"}, device="cpu", seed=3)
    config = upsampler._config_for(data)
    parts = parts_of(data, config, Round(3, 0))
    numbers, labels = np.arange(300.0), np.array(["a", "b"] * 150)
    numbers[parts.apart[0]], labels[parts.apart[0]] = 1000.0, "c"
    with monkeypatch.context() as patch:
        patch.setattr("synther.upsampling.learning.train", lambda *_: pytest.fail("trained"))
        for values, target, message in (
            (numbers, 1000.0, "above the trained range.*without rows that are held out"),
            (labels, "c", "no row that the model is trained with has this label.*ask for a, b"),
        ):
            with pytest.raises(ConditionError, match=message):
                synther.upsample(data, 3, condition="own", target=target, values=values, **OPTIONS)
    # The second split has other rows, and its rounds go on with the labels of the first.
    upsampler.fit(data, labels)
    with pytest.raises(ConditionError, match="no row that the model is trained with"):
        upsampler.sample(3, target="c")
    second = parts_of(data, config, Round(3, 1))
    assert parts.apart[0] in second.kept
    upsampler.refit(data, 3, values=labels)
    assert len(upsampler.sample(3, target="c")) == 3
    labels[labels == "c"] = "a"
    upsampler.refit(data, 3, values=labels)
    assert len(upsampler.sample(3, target="c")) == 3
    with pytest.raises(ConditionError, match="and no d; use fit for a new model"):
        upsampler.refit(data, 3, values=np.where(labels == "b", "d", labels))


def test_rows_to_begin_at_are_some(fitted: Upsampler, data: Transitions) -> None:
    with pytest.raises(TransitionError, match="has no rows, and samples begin at some"):
        fitted.around(data.subset(slice(0, 0)), 5)
    with pytest.raises(ValueError, match="noise is 0"):
        fitted.around(data, 5, 0)


def in_units(rows: Transitions, half: float, **metadata: Any) -> Transitions:
    """The same actions as [-1, 1] has, in [-half, half]."""
    arrays = {**rows.arrays(), "actions": half * rows.actions}
    stated = Transitions(**arrays, metadata=metadata, timeouts=rows.timeouts)
    return with_action_bounds(stated, low=-half, high=half)


def test_rows_to_begin_at_are_taken_in_the_models_units(data: Transitions) -> None:
    upsampler = Upsampler({**TINY, "condition": "actions[0]"}, device="cpu", action_low=-1,
                          action_high=1).fit(data)  # fmt: skip
    expected = upsampler.around(data, 50, 0.3)
    for half in (1.0, 2.0, 0.25):
        found = upsampler.around(in_units(data, half), 50, 0.3)
        torch.testing.assert_close(found.rows, expected.rows, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found.target, expected.target, rtol=0, atol=1e-6)
    doubled = Transitions(**in_units(data, 2.0).arrays())  # which says nothing of it
    assert upsampler.around(doubled, 50).rows[:, 2].abs().max() > 1.5


def test_the_short_way_takes_rows_in_the_datas_units(data: Transitions, monkeypatch) -> None:
    """And what is said of these by hand is said of the data as rows to begin at as well."""
    begun: list[Transitions] = []
    monkeypatch.setattr(Upsampler, "fit", lambda *_: None)
    monkeypatch.setattr(Upsampler, "around", lambda _, real, *__: begun.append(real))
    monkeypatch.setattr(Upsampler, "sample", lambda *_, **__: None)
    doubled = in_units(data, 2.0)
    synther.upsample(data, 20, around=doubled, action_low=-1, action_high=1, **OPTIONS)
    synther.upsample(doubled, 20, around=doubled, action_low=-4, action_high=4, **OPTIONS)
    np.testing.assert_allclose(begun[0].actions, data.actions, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(begun[1].actions, doubled.actions)


def test_rows_to_begin_at_are_of_the_models_environment(data: Transitions, monkeypatch) -> None:
    hopper, walker, unknown = (
        Transitions(**data.arrays(), metadata={"env_id": name} if name else {})
        for name in ("Hopper-v5", "Walker2d-v5", None)
    )
    upsampler = Upsampler(TINY, device="cpu", action_low=-1, action_high=1).fit(walker)
    message = "around: samples of Walker2d-v5, and the data are of Hopper-v5"
    with pytest.raises(TransitionError, match=message):
        upsampler.around(hopper, 5)
    assert len(upsampler.around(walker, 5).rows) == len(upsampler.around(unknown, 5).rows) == 5
    monkeypatch.setattr("synther.upsampling.learning.train", lambda *_: pytest.fail("trained"))
    with pytest.raises(TransitionError, match=message):
        synther.upsample(walker, 5, around=hopper, action_low=-1, action_high=1, **OPTIONS)


def test_returns_of_rows_without_order() -> None:
    with pytest.raises(TransitionError, match="do not lie in the order of their episodes"):
        synther.upsample(
            random_transitions(300), 3, condition="return", target="top 10%", **OPTIONS
        )


def test_actions_follow_a_policy(fitted: Upsampler) -> None:
    """A function of numpy arrays, and one of tensors that gives a distribution."""
    free = fitted.sample(40, 5)
    assert_equal(free, fitted.sample(40, 5, policy=lambda seen: seen, policy_strength=0.0))
    columns = free.actions.shape[1]

    def of_arrays(seen: torch.Tensor) -> np.ndarray:
        return np.full((len(seen), columns), 0.5)

    def of_tensors(seen: torch.Tensor) -> torch.distributions.Distribution:
        return torch.distributions.Normal(torch.full((len(seen), columns), 0.5), 1.0)

    follows = fitted.sample(40, 5, policy=of_arrays, policy_strength=5.0)
    assert np.abs(follows.actions - 0.5).mean() < 0.5 * np.abs(free.actions - 0.5).mean()
    assert follows.metadata["synther"]["policy_strength"] == 5
    assert "policy_strength" not in free.metadata["synther"]
    found = fitted.sample(40, 5, policy=of_tensors, policy_strength=5.0)
    assert np.abs(found.actions - 0.5).mean() < 0.7 * np.abs(free.actions - 0.5).mean()
    with pytest.raises(ConditionError, match="the policy gives actions of shape"):
        fitted.sample(4, policy=lambda seen: seen[:, :0])


def test_metadata_say_what_the_last_stage_of_these_very_rows_does(
    fitted: Upsampler, data: Transitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage of rows that are asked for something is their own, and is made once."""
    made = []

    class Stage(ConsistentRows):
        def settings(self) -> dict[str, int]:
            return {"number": made.index(self)}

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("synther.diffusion.generation.generator.ConsistentRows", Stage)
    upsampler = pickle.loads(pickle.dumps(fitted))  # with no stage yet
    near = upsampler.around(data, 20, 0.1)
    for number, target in enumerate([near, None, "top 10%"]):
        for _ in range(2):
            samples = upsampler.sample(20, target=target)
            assert samples.metadata["synther"]["repairs"] == {"number": number}
    assert len(made) == 3


def test_what_is_refused_is_no_draw(data: Transitions, fitted: Upsampler) -> None:
    """The next rows without a seed are those that would have come anyway."""
    ours, other = copy.deepcopy(fitted), copy.deepcopy(fitted)
    for refused in ({"target": 1e6}, {"policy_strength": 2.0}):
        with pytest.raises(ConditionError):
            ours.sample(4, **refused)
    assert_equal(ours.sample(4), other.sample(4))


def test_a_strength_is_of_a_policy(fitted: Upsampler) -> None:
    with pytest.raises(ConditionError, match="there is no policy to follow"):
        fitted.sample(4, policy_strength=2.0)


def test_a_number_in_a_tensor_is_a_target(fitted: Upsampler) -> None:
    asked = fitted.sample(4, 1, target=torch.tensor(0.5, requires_grad=True))
    assert asked.metadata["synther"]["asked"]["target"] == 0.5
    assert_equal(asked, fitted.sample(4, 1, target=0.5))


def test_the_command_asks_for_a_condition(
    data: Transitions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data.save("data.npz")
    np.save("own.npy", np.arange(300.0))
    small = "data.npz --num 9 --steps 5 --width 16 --consistency off --device cpu --output s.npz"
    for words, expected in (
        ("--condition return --target -1e-2 --guidance 2", ("return", -0.01, 2.0)),
        ("--condition own.npy --target 7", ("own", 7.0, 1.0)),
    ):
        command.main([*small.split(), *words.split()])
        asked = Transitions.load("s.npz").metadata["synther"]["asked"]
        assert (asked["condition"], asked["target"], asked["guidance"]) == expected
        Path("s.npz").unlink()
    monkeypatch.setattr("synther.upsampling.learning.train", lambda *_: pytest.fail("trained"))
    for words, message in (
        ("--condition return", "has no target"),
        ("--target 1", "has no condition"),
        ("--condition reward --target 1e6", "above the trained range"),
        ("--guidance 2", "no target to guide to"),
    ):
        with pytest.raises(SystemExit):
            command.main([*small.split(), *words.split()])
        assert message in capsys.readouterr().err


def test_a_label_may_be_asked_for_as_bytes(data: Transitions) -> None:
    labels = np.array(["a", "b"] * (len(data) // 2))
    upsampler = Upsampler({**TINY, "condition": "kind"}, device="cpu", seed=3).fit(data, labels)
    as_text = upsampler.sample(5, seed=1, target="a")
    assert_equal(upsampler.sample(5, seed=1, target=b"a"), as_text)
