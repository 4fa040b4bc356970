"""The command: samples and models in; report, table and pictures out; bad input named."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from synther.datasets import load_dataset
from synther.diffusion.evaluate_samples import main
from synther.diffusion.fidelity import marginals_plot, plots
from synther.diffusion.fidelity.held_out import hold_out
from synther.diffusion.fidelity.likelihood import held_out_log_likelihood
from synther.diffusion.model_io import load_model
from synther.diffusion.provenance import Provenance
from synther.diffusion.training.trainer import Trainer
from synther.diffusion.utils import construct_diffusion_model, make_inputs
from synther.transitions import TransitionLayout, Transitions
from tests.data import random_transitions
from tests.diffusion.models import TINY

HOPPER = load_dataset("hopper-demo-v0").subset(slice(0, 2000))


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in place of pictures, whose drawing is most of the time; see test_plots.py."""

    def touch(pages: object, path: Path) -> Path:
        for suffix in (".png", ".pdf"):
            Path(path).with_suffix(suffix).touch()
        return Path(path)

    for module in (plots, marginals_plot):
        monkeypatch.setattr(module, "save_figure", touch)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: data, and in a folder run.json, samples that are copies, a model."""
    root = tmp_path_factory.mktemp("finished")
    HOPPER.save(root / "real.npz")
    training, _ = hold_out(HOPPER, 0.2, 3)
    folder = root / "run"
    folder.mkdir()
    run = {"rows": len(training), "seed": 3, "held_out": 0.2}
    (folder / "run.json").write_text(json.dumps(run))
    training.subset(slice(0, 500)).save(folder / "samples.npz")
    inputs = make_inputs(training)
    layout = TransitionLayout.of(training)
    Trainer(
        construct_diffusion_model(inputs, "standard", TINY, layout=layout),
        inputs,
        results_folder=folder,
        train_num_steps=1,
        device="cpu",
        layout=layout,
    ).save(1)
    return root


@pytest.fixture
def run_folder(finished: Path, tmp_path: Path) -> Path:
    """The folder of the run, in a copy that a test may write to."""
    return Path(shutil.copytree(finished, tmp_path / "copy")) / "run"


def options(folder: Path, *more: object) -> list[str]:
    real = folder.parent / "real.npz"
    chosen = ["--real", real, "--num_steps", 2, "--num_samples", 60, "--max_rows", 50]
    return [str(each) for each in (*chosen, "--threads", 1, *more)]


def test_samples_model_and_baseline_go_into_one_report(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [run_folder / "samples.npz", run_folder / "model-1.pt"]
    main(options(run_folder, "--synthetic", *files, "--baselines", "noise=0.3"))
    output = run_folder / "fidelity"
    report = json.loads((output / "fidelity.json").read_text())
    assert list(report) == ["reference", "held_out", "samples", "model-1", "noise=0.3"]
    assert report["samples"]["novelty"]["memorised"]
    assert report["samples"]["novelty"]["median"] == 0
    assert not report["held_out"]["novelty"]["memorised"]
    assert report["samples"]["dynamics"]["next_observation"] < 1e-6
    assert report["noise=0.3"]["dynamics"]["next_observation"] > 0.01
    assert report["model-1"]["rows"] == [400, 60]
    text = capsys.readouterr().out
    assert "held-out rows: held out from training: 400 rows, seed 3" in text
    assert "100.0% of them are copies of training rows" in text
    assert re.search(r"memorised +no +YES", text)
    pictures = ["correlations", "novelty", "projection", "marginals-samples", "marginals-model-1"]
    for name in (*pictures, "marginals-noise=0.3"):
        assert (output / f"{name}.png").exists()
        assert (output / f"{name}.pdf").exists()


def test_the_log_likelihood_of_held_out_rows_under_a_model(run_folder: Path) -> None:
    files = [run_folder / "samples.npz", run_folder / "model-1.pt"]
    main(options(run_folder, "--synthetic", *files, "--log_likelihood"))
    found = json.loads((run_folder / "fidelity" / "log_likelihood.json").read_text())
    assert list(found) == ["model-1"]
    model = load_model(run_folder / "model-1.pt")
    _, held_out = hold_out(HOPPER, 0.2, 3)
    expected = held_out_log_likelihood(model.model, model.layout.pack(held_out), max_rows=50)
    assert found["model-1"] == pytest.approx(asdict(expected), rel=1e-5)


def test_without_a_simulator_and_without_a_run_the_rest_is_reported(tmp_path: Path) -> None:
    random_transitions(200).save(tmp_path / "real.npz")
    for name in ("a", "b"):
        random_transitions(100, seed=ord(name)).save(tmp_path / name / "rows.npz")
    files = [tmp_path / name / "rows.npz" for name in "ab"]
    folder = tmp_path / "a"
    main(options(folder, "--synthetic", *files, "--output", tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    assert list(report)[2:] == ["a/rows", "b/rows"]
    assert report["a/rows"]["dynamics"]["next_observation"] is None
    assert "not defined here" in report["a/rows"]["dynamics"]["reason"]
    assert (tmp_path / "out" / "marginals-b-rows.png").exists()
    main(options(folder, "--synthetic", files[0], "--names", "SynthER", "--output", folder / "n"))
    assert list(json.loads((folder / "n" / "fidelity.json").read_text()))[2:] == ["SynthER"]
    assert (folder / "n" / "marginals-SynthER.pdf").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--baselines", "noize"], "baseline 'noize': expected one of noise"),
        (["--max_rows", "0"], "--max_rows: '0': expected 1 or more"),
        (["--device", "tpu"], "device 'tpu'"),
        (["--names", "a", "b"], "--names: 2 names for 1 files"),
        (["--sampler", "nope"], "sampler 'nope': expected one of"),
    ],
)
def test_bad_options_are_named(
    run_folder: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(options(run_folder, "--synthetic", run_folder / "model-1.pt", *more))
    assert stop.value.code
    assert message in capsys.readouterr().err
    assert not (run_folder / "fidelity").exists()


def test_bad_files_are_named(
    run_folder: Path, golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = run_folder / "narrow.npz"
    random_transitions(50).save(narrow)
    samples = run_folder / "samples.npz"
    release = run_folder / "release" / "model-300.pt"
    release.parent.mkdir()
    shutil.copy(golden / "release2023_standard" / "model-300.pt", release)
    release.with_name("config.gin").write_text("make_inputs.modelled_terminals = False")
    for files, message in (
        ([narrow], "narrow.npz: 3 observation and 2 action columns"),
        ([run_folder / "none.npz"], "none.npz: no such file"),
        ([samples, samples], "two files have the name run/samples"),
        ([run_folder / "run.json"], "not a readable .npz"),
        # Its 27 columns are those of Hopper's rows with a terminal, and that is what they are not.
        ([release], "model-300.pt: the model's rows have 27 columns, expected 26 columns: 11 obs"),
    ):
        with pytest.raises(SystemExit):
            main(options(run_folder, "--synthetic", *files))
        assert message in capsys.readouterr().err


def test_names_that_the_report_has_already_are_refused(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is loaded: there are no such data."""
    files = [run_folder / f"{name}.npz" for name in ("held_out", "noise", "other")]
    for names, message in (
        ([], "held_out.npz: the name held_out is that of a part of the report; --names gives"),
        (["a", "noise", "c"], "noise.npz: the name noise is that of a baseline; --names gives"),
        (["a", "b/c", "b-c"], "the names b/c and b-c are of one picture, marginals-b-c.png; --na"),
    ):
        more = ["--names", *names] if names else []
        chosen = ["--real", "none.npz", "--baselines", "noise", *more, "--synthetic"]
        with pytest.raises(SystemExit):
            main([*chosen, *map(str, files)])
        assert message in capsys.readouterr().err


def test_rows_that_are_sampled_do_not_depend_on_what_else_is_measured(run_folder: Path) -> None:
    model = run_folder / "model-1.pt"
    reports = []
    for files in ([model], [run_folder / "samples.npz", model]):
        main(options(run_folder, "--synthetic", *files, "--max_rows", 10))
        reports.append(json.loads((run_folder / "fidelity" / "fidelity.json").read_text()))
    assert reports[0]["model-1"] == reports[1]["model-1"]


def test_all_rows_of_a_set_count_in_similarities(run_folder: Path) -> None:
    samples = Transitions.load(run_folder / "samples.npz")
    main(options(run_folder, "--synthetic", run_folder / "samples.npz"))
    report = json.loads((run_folder / "fidelity" / "fidelity.json").read_text())
    assert report["samples"]["rows"] == [400, len(samples)]
    assert report["samples"]["novelty"]["rows"] == 50
    assert report["samples"]["terminal_rate"] == pytest.approx(np.mean(samples.terminals))


def test_rows_of_other_data_are_not_called_held_out(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learnt = Provenance.of(HOPPER, held_out=0.2, seed=3).metadata()
    rows = Transitions.load(run_folder / "samples.npz")
    replace(rows, metadata={**learnt, "env_id": "Hopper-v2"}).save(run_folder / "samples.npz")
    others = replace(HOPPER, rewards=HOPPER.rewards + 1).save(run_folder.parent / "others.npz")
    main(options(run_folder, "--real", others, "--synthetic", run_folder / "samples.npz"))
    report = json.loads((run_folder / "fidelity" / "fidelity.json").read_text())
    assert report["reference"] == "real rows of which nobody knows whether the model saw them"
    text = " ".join(capsys.readouterr().out.split())
    assert "held out from training" not in text
    assert "real, held out" not in text
    assert "it was trained on other rows than those of" in text


def test_samples_of_another_environment_are_refused_unless_asked_for(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Transitions.load(run_folder / "samples.npz")
    replace(rows, metadata={"env_id": "Walker2d-v2"}).save(run_folder / "samples.npz")
    words = options(run_folder, "--synthetic", run_folder / "samples.npz")
    with pytest.raises(SystemExit):
        main(words)
    assert "samples of Walker2d-v2, and the data are of Hopper-v2" in capsys.readouterr().err
    main([*words, "--any_environment"])


def test_samples_in_other_units_are_brought_into_those_of_the_data(run_folder: Path) -> None:
    rows = Transitions.load(run_folder / "samples.npz")
    wide = {"env_id": "Hopper-v2", "action_low": -4, "action_high": 4}
    replace(rows, actions=4 * rows.actions, metadata=wide).save(run_folder / "samples.npz")
    main(options(run_folder, "--synthetic", run_folder / "samples.npz"))
    report = json.loads((run_folder / "fidelity" / "fidelity.json").read_text())
    assert report["samples"]["dynamics"]["next_observation"] < 1e-6
    assert report["samples"]["novelty"]["median"] == 0
