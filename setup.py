"""Packaging of SynthER; ``pip install -r requirements.txt`` is the tested set."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

CORE = [
    "torch>=2.11",
    "numpy>=1.26",
    "scipy>=1.11",
    "gymnasium>=1.2",
    "cloudpickle>=2.2",
    "h5py>=3.11",
    "gin-config>=0.5.0",
    "pyrallis>=0.3.1",
    "pyyaml>=6.0",
    "accelerate>=1.12",
    "filelock>=3.12",
    "ema-pytorch>=0.7.7",
    "torchdiffeq>=0.2.5",
    "einops>=0.8",
    "tqdm>=4.66",
    "rich>=13.7",
    "matplotlib>=3.8",
]
EXTRAS = {
    # imageio: gymnasium imports it for any MuJoCo environment, and does not ask for it itself
    "envs": ["mujoco>=3.3.3,<4", "dm_control>=1.0.31", "shimmy>=2.0.1", "imageio>=2.14"],
    "minari": ["minari[hdf5]>=0.5.3"],
    # 1.1 brought the rewards of single tasks, 1.2 is what was tried
    "ogbench": ["ogbench>=1.2"],
    "sb3": ["stable-baselines3>=2.7"],
    # 2.8 asks for gymnasium 1.0.0 and no other
    "d3rlpy": ["d3rlpy>=2.6.2,<2.8"],
    # evaluate_samples.py --baselines gmm,vae,ctgan; ctgan is under the Business Source License
    "baselines": ["scikit-learn>=1.5", "ctgan>=0.11"],
    # gym 0.23 and mujoco-py; d4rl 1.1 goes in with --no-deps: docs/legacy.md
    "legacy": ["gym==0.23.1", "mujoco-py-cython3==2.1.2.15", "termcolor>=2.3", "click>=8.1"],
    # playwright: tests/test_site.py drives a browser with it
    "docs": ["mkdocs-material>=9.7", "mkdocstrings[python]>=1.0", "playwright>=1.49"],
    "wandb": ["wandb>=0.22"],
    "tensorboard": ["tensorboard>=2.17"],
    # Many runs: sweep.py on Ray, or job arrays for Slurm.
    "ray": ["ray>=2.40"],
    "slurm": ["submitit>=1.5"],
    "dev": [
        "setuptools>=68",  # the test of the wheel builds one
        "pytest>=8.3",
        "hypothesis>=6.112",
        "pytest-cov>=5.0",
        "pytest-xdist>=3.6",
        "pytest-randomly>=3.16",
        "ruff==0.17.5",
        "mypy==2.4.1",
        "import-linter==2.16",
        "minari[hdf5]>=0.5.3",
        "ogbench>=1.2",
        "stable-baselines3>=2.7",
        "d3rlpy>=2.6.2,<2.8",
        "tensorboard>=2.17",
        "ray>=2.40",
        "submitit>=1.5",
    ],
}


def version() -> str:
    """The version that the package says it has; importing it needs what is not installed yet."""
    text = (HERE / "synther" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


setup(
    name="synther",
    version=version(),
    description="Synthetic Experience Replay: diffusion-upsampled transitions for RL agents",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="the SynthER authors",
    url="https://arxiv.org/abs/2303.06614",
    project_urls={
        "Paper": "https://arxiv.org/abs/2303.06614",
        "Research release of 2023": "https://github.com/conglu1997/SynthER",
    },
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",  # macOS is expected to work: docs/limits.md
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    entry_points={"console_scripts": ["synther = synther.__main__:main"]},
    python_requires=">=3.10",
    # The top-level folder config/ is installed as synther.config; see synther/installed.py.
    packages=[*find_packages(include=["synther", "synther.*"]), "synther.config"],
    package_dir={"synther.config": "config"},
    package_data={
        "synther.config": ["*.gin", "*/*.gin", "*/*.yaml"],
        "synther": ["py.typed"],
        "synther.advise": ["*.json"],
        "synther.datasets": ["*.json", "data/*.npz"],
        "synther.envs": ["*.json", "assets/*"],
        "synther.corl": ["yaml/*/*/*.yaml"],
        "synther.reports": ["*.json"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)
