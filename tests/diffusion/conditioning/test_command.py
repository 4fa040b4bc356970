"""``train_diffuser.py`` asked for a condition."""

import json
from pathlib import Path

import numpy as np
import pytest

from synther.diffusion.model_io import load_model
from synther.diffusion.train_diffuser import main
from synther.files import checkpoint
from synther.transitions import Transitions
from tests.diffusion.test_train_diffuser import arguments

from .test_values import episodes

SHORT = ("--no_save_samples",)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = episodes([50, 60, 40, 50], ["terminal", "timeout", "terminal", "timeout"])
    return data.save(tmp_path_factory.mktemp("data") / "data.npz")


def test_the_command_trains_a_condition_and_asks_for_it(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--target", "top 20%", "--guidance", "1.5")
    main(arguments(dataset, tmp_path, "--condition", "return", *asked))
    samples = Transitions.load(tmp_path / "samples.npz")
    assert samples.metadata["generator"]["asked"] == {
        "condition": "return", "target": "top 20%", "guidance": 1.5,
    }  # fmt: skip
    condition = load_model(tmp_path / "model-60.pt").model.condition
    assert condition is not None
    assert condition.name == "return"
    assert "asked for top 20%" in capsys.readouterr().out
    # Gin asks for the same.
    bindings = (
        "SimpleDiffusionGenerator.target='top 20%'",
        "SimpleDiffusionGenerator.guidance=1.5",
        "condition.name='return'",
    )
    main(arguments(dataset, tmp_path / "gin", gin=bindings))
    same = Transitions.load(tmp_path / "gin" / "samples.npz")
    np.testing.assert_array_equal(samples.observations, same.observations)
    # The checkpoint is asked for something else later.
    main(arguments(dataset, tmp_path, "--load_checkpoint", "--target", "0.5"))
    later = Transitions.load(tmp_path / "samples.npz")
    assert later.metadata["generator"]["asked"]["target"] == 0.5
    # It has learnt no other condition than its own.
    same = ("--load_checkpoint", "--condition")
    main(arguments(dataset, tmp_path, *same, "return", "--target", "0.5"))
    for name in ("reward", "nonsense"):
        with pytest.raises(SystemExit):
            main(arguments(dataset, tmp_path, *same, name, "--target", "0.5"))
        said = " ".join(capsys.readouterr().err.split())
        expected = f"trained with the condition 'return', and the condition asked for is '{name}'"
        assert expected in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--condition", "retrun"), "no condition 'retrun'; did you mean return?"),
        (("--condition", "return", "--target", "1e6"), "above the trained range"),
        (("--target", "1"), "the model has no condition"),
        (("--condition", "return", "--guidance", "2"), "there is no target to guide to"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    dataset: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(arguments(dataset, tmp_path / "run", *words))
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_other_values_in_the_file_of_the_condition_are_not_resumed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an earlier version, which kept no digest of them, can be resumed as before."""
    file, folder = tmp_path / "own.npy", tmp_path / "run"
    np.save(file, np.linspace(0, 1, 200))
    words = (*SHORT, "--condition", str(file))
    main(arguments(dataset, folder, *words, gin=("Trainer.train_num_steps=4",)))
    longer = arguments(dataset, folder, *words, "--resume", gin=("Trainer.train_num_steps=6",))
    np.save(file, np.linspace(1000, 2000, 200))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(longer)
    message = " ".join(capsys.readouterr().err.split())
    assert "condition: then own, whose values have the digest" in message
    settings = json.loads((folder / "run.json").read_text())
    del settings["condition"]
    (folder / "run.json").write_text(json.dumps(settings))
    main(longer)
    assert list(checkpoint.steps(folder, "model"))[-1] == 6


def test_a_label_that_reads_as_a_number_is_a_label(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "kind.npy", tmp_path / "run"
    np.save(file, np.array(["1", "2"] * 100))
    words = ("--condition", str(file), "--target")
    short = ("Trainer.train_num_steps=4", "SimpleDiffusionGenerator.consistency='off'")
    main(arguments(dataset, folder, *words, "2", gin=short))
    asked = Transitions.load(folder / "samples.npz").metadata["generator"]["asked"]
    assert asked["target"] == "2"
    with pytest.raises(SystemExit):
        main(arguments(dataset, tmp_path / "other", *words, "3", gin=short))
    assert "has no label '3', it has 1, 2" in capsys.readouterr().err
