"""wandb is asked what it is to do, in time, and a resumed run stays one run; with a package that
records what it is given in place of wandb."""

from __future__ import annotations

import re
import sys
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synther.diffusion import train_diffuser
from synther.installed import install_hint
from synther.runs import wandb_logs
from synther.runs.loggers import LOG_KEYS, Logger, open_adapters, require_services
from synther.runs.wandb_logs import ID_FILE, default_wandb_mode
from tests.data import random_transitions
from tests.diffusion.test_train_diffuser import arguments


class FakeWandb(SimpleNamespace):
    """Each run has an id of its own, unless it is given one."""

    def __init__(self, **more: Any) -> None:
        api = SimpleNamespace(api_key=None)
        super().__init__(started=[], logged=[], api=api, Api=self.answering, **more)
        self.__spec__ = ModuleSpec("wandb", None)  # other libraries look for the package
        self.ask: Any = lambda: "somebody"

    def answering(self, timeout: int) -> Any:
        return SimpleNamespace(viewer=self.ask())

    def init(self, **settings: Any) -> Any:
        settings.setdefault("id", f"new{len(self.started)}")
        self.started.append(settings)
        name = settings["id"]
        return SimpleNamespace(
            id=name,
            log=lambda metrics, step: self.logged.append((name, step, metrics)),
            finish=lambda: None,
        )


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def settings(**asked_for: Any) -> Any:
    nothing = {**dict.fromkeys(LOG_KEYS), "tensorboard": False, "resume": False}
    return SimpleNamespace(**{**nothing, **asked_for})


def test_what_wandb_says_of_its_own_future_is_not_shown(
    wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deprecated:
        @property
        def api_key(self) -> str | None:
            sys.stderr.write("wandb.api is deprecated\n")
            return None

    wandb.api = Deprecated()
    with pytest.raises(ValueError, match="--wandb-mode online needs a key"):
        require_services(settings(wandb_mode="online"))
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("wandb")
def test_wandb_is_never_online_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_wandb_mode(None) == "disabled"
    assert default_wandb_mode(None, entity="team") == "offline"
    assert default_wandb_mode("online") == "online"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert default_wandb_mode(None) == "offline"
    assert default_wandb_mode("disabled") == "disabled"


@pytest.mark.usefixtures("wandb")
def test_wandb_s_own_variable_says_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    for mode in ("disabled", "offline", "online"):
        monkeypatch.setenv("WANDB_MODE", mode)
        assert default_wandb_mode(None) == mode
        assert default_wandb_mode("disabled") == "disabled"
    for old, mode in (("dryrun", "offline"), ("run", "online"), ("Offline", "offline")):
        monkeypatch.setenv("WANDB_MODE", old)
        assert default_wandb_mode(None) == mode
    monkeypatch.setenv("WANDB_MODE", "")
    assert default_wandb_mode(None) == "offline"


def test_a_mode_that_is_none_is_an_error_before_the_folder_is_taken(
    tmp_path: Path,
    wandb: FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The run would not be logged, and nobody would know until it is over."""
    monkeypatch.setenv("WANDB_MODE", "onlin")
    data = random_transitions(50).save(tmp_path / "data.npz")
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        train_diffuser.main(arguments(data, folder))
    assert end.value.code == 1
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert "WANDB_MODE is 'onlin', expected disabled, offline or online" in line
    assert not folder.exists()
    assert wandb.started == []
    require_services(settings(wandb_mode="disabled"))  # the flag goes before the variable


def test_a_missing_wandb_is_a_clear_error_and_disabled_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert open_adapters(tmp_path, {}, settings(wandb_mode="disabled")) == ()
    for asked in (settings(wandb_mode="offline"), settings(entity="team")):
        with pytest.raises(ImportError, match=re.escape(install_hint("wandb"))):
            require_services(asked)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ImportError):
        require_services(settings())


def test_a_key_without_the_package_warns_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is in the profile of a machine; nobody asked this run to be logged."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    with pytest.warns(UserWarning, match="is not logged there.*--wandb-mode disabled"):
        require_services(settings())
    assert open_adapters(tmp_path, {}, settings()) == ()


def test_wandb_that_does_not_start_is_one_line(tmp_path: Path, wandb: FakeWandb) -> None:
    """Without a key, a home directory or a network it raises a dozen kinds of errors."""

    def refuse(**_: object) -> None:
        raise RuntimeError("Could not determine\n  home directory.")

    wandb.init = refuse  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"\(Could not determine home directory\.\).*--wandb-mode"):
        open_adapters(tmp_path, {}, settings(wandb_mode="online"))


def test_online_needs_a_key(wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="--wandb-mode online needs a key"):
        require_services(settings(wandb_mode="online"))
    wandb.api.api_key = "of wandb login"
    require_services(settings(wandb_mode="online"))
    wandb.api.api_key = None
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    require_services(settings(wandb_mode="online"))


def test_a_server_that_does_not_answer_ends_the_wait_before_the_folder_is_taken(
    tmp_path: Path,
    wandb: FakeWandb,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert wandb_logs.PATIENCE < 10
    monkeypatch.setattr(wandb_logs, "PATIENCE", 0.1)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    never = threading.Event()
    wandb.ask = never.wait
    data = random_transitions(50).save(tmp_path / "data.npz")
    folder = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        train_diffuser.main([*arguments(data, folder), "--wandb-mode", "online"])
    never.set()
    assert end.value.code == 1
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert "wandb could not be started (its server did not answer within" in line
    assert not folder.exists()
    assert wandb.started == []


def test_an_account_that_is_refused_is_one_line(
    wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ValueError("Unable to fetch user data from W&B")

    monkeypatch.setenv("WANDB_API_KEY", "secret")
    wandb.ask = refuse
    with pytest.raises(ValueError, match=r"\(Unable to fetch.*\); log in with"):
        require_services(settings(wandb_mode="online"))


@pytest.mark.parametrize(("mode", "asked"), [("online", "allow"), ("offline", None)])
def test_a_resumed_run_keeps_its_id(
    tmp_path: Path, wandb: FakeWandb, mode: str, asked: str | None
) -> None:
    def run(resume: bool, step: int) -> None:
        given = settings(wandb_mode=mode, resume=resume)
        with Logger(tmp_path, adapters=open_adapters(tmp_path, {}, given)) as logger:
            logger.log({"loss": 1.0, "note": "text"}, step)

    run(False, 1)
    run(True, 2)
    run(False, 1)  # a new run in place of the old one
    run(True, 2)
    names = [name for name, _, _ in wandb.logged]
    assert names == ["new0", "new0", "new2", "new2"]
    assert [each.get("resume") for each in wandb.started] == [None, asked, None, asked]
    assert wandb.logged[1][1:] == (2, {"loss": 1.0})
    assert (tmp_path / ID_FILE).read_text() == "new2\n"


def test_the_command_keeps_the_id_of_the_run_that_it_resumes(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    data = random_transitions(200).save(tmp_path / "data.npz")
    folder = tmp_path / "run"
    asked = ("--wandb-mode", "offline")
    train_diffuser.main(arguments(data, folder, *asked))
    longer = ("Trainer.train_num_steps = 70",)
    train_diffuser.main(arguments(data, folder, *asked, "--resume", gin=longer))
    train_diffuser.main(arguments(data, folder, *asked))  # sets the first aside, id and all
    assert [each["id"] for each in wandb.started] == ["new0", "new0", "new2"]
    kept = {path.read_text() for path in folder.rglob(ID_FILE)}
    assert kept == {"new0\n", "new2\n"}
