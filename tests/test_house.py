"""Rules of the house that no single module can keep: packaging, imports, commands."""

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import synther

REPOSITORY = Path(__file__).parents[1]
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(synther.__path__, prefix="synther.")
)
COMMANDS = [
    "synther/diffusion/train_diffuser.py",
    "synther/diffusion/evaluate_samples.py",
    "synther/online/online_exp.py",
    "synther/pixels/drq_bc.py",
    "synther/pixels/encode.py",
    "synther/sweep.py",
    "synther/report.py",
] + [f"synther/corl/algorithms/{name}.py" for name in ("td3_bc", "iql", "edac", "cql")]
SIMULATORS = ("gymnasium", "mujoco", "dm_control", "shimmy")
SLOW = ("scipy.stats", "scipy.spatial", "scipy.cluster")
"""A second of imports, which only those wait for who compare distributions."""
OPTIONAL = (*SIMULATORS, "minari", "ogbench", "wandb", "tensorboard")


def requirement_names(text: str) -> set[str]:
    """Names of the requirements in lines such as ``torch>=2.11  # why``."""
    found = re.findall(r"""^\s*["']?([A-Za-z][\w.-]*)(?:\[\w+\])?\s*[<>=!~]=""", text, re.MULTILINE)
    return {name.lower().replace("_", "-") for name in found}


def third_party_imports() -> set[str]:
    names = set()
    for path in (REPOSITORY / "synther").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"synther"}


def test_everything_imported_is_a_stated_requirement() -> None:
    setup = (REPOSITORY / "setup.py").read_text()
    stated = requirement_names(re.sub(r'"(?=[A-Za-z][\w.-]*(\[\w+\])?[<>=]=)', '\n"', setup))
    distributions = importlib.metadata.packages_distributions()
    for name in sorted(third_party_imports()):
        owners = {owner.lower().replace("_", "-") for owner in distributions.get(name, [name])}
        assert owners & stated, f"{name} is imported and not in setup.py"
    pinned = requirement_names((REPOSITORY / "requirements.txt").read_text())
    assert pinned <= stated, f"in requirements.txt and not in setup.py: {pinned - stated}"


def test_every_module_imports_without_simulators_and_log_services() -> None:
    script = f"""
import sys
for name in {OPTIONAL!r}:
    sys.modules[name] = None
import importlib
for name in {MODULES!r}:
    importlib.import_module(name)
print([name for name in {SLOW!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_an_algorithm_does_not_load_the_rest_of_the_house() -> None:
    script = """
import sys
import synther.corl.algorithms.td3_bc
heavy = ("synther.online", "synther.diffusion", "gymnasium", "mujoco", "dm_control", "wandb")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_import_synther_is_light() -> None:
    script = "import sys, synther; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["diffusion", "corl/algorithms", "online", "pixels"])
def test_no_file_beside_a_command_hides_a_module(folder: str) -> None:
    # Starting a file puts its folder first on sys.path.
    installed = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    for path in (REPOSITORY / "synther" / folder).glob("*.py"):
        assert path.stem == "__init__" or path.stem not in installed, path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_start_as_files_from_anywhere(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / command), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout.lower()


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("diffusion.denoiser_network", "ResidualMLPDenoiser"),
        ("diffusion.elucidated_diffusion", "ElucidatedDiffusion Trainer REDQTrainer"),
        ("diffusion.norm", "Normalizer MinMaxNormalizer normalizer_factory"),
        ("diffusion.utils", "make_inputs split_diffusion_samples construct_diffusion_model"),
        ("diffusion.train_diffuser", "SimpleDiffusionGenerator"),
        (
            "corl.shared.buffer",
            "prepare_replay_buffer DiffusionConfig ReplayBuffer DiffusionGenerator "
            "RewardNormalizer StateNormalizer",
        ),
    ],
)
def test_names_that_other_projects_import_are_where_they_were(module: str, names: str) -> None:
    imported = importlib.import_module(f"synther.{module}")
    for name in names.split():
        assert callable(getattr(imported, name))


def test_typed_package_data_is_there() -> None:
    assert (Path(synther.__file__).with_name("py.typed")).is_file()
