"""The files in ``config/online`` say what the paper's runs used, from whatever folder."""

import gin
import pytest
import torch

from synther.diffusion.model_io import load_model
from synther.diffusion.norm import Normalizer, TransitionSpace
from synther.installed import CHECKOUT as ROOT
from synther.learning.replay import RowBuffer
from synther.online.config import OnlineConfig
from synther.online.refill import SyntheticRefill
from synther.runs import gin_config
from tests.diffusion.models import LAYOUT, random_rows

SAC = {
    "redq_sac.start_steps": 5000,
    "redq_sac.utd_ratio": 1,
    "redq_sac.num_Q": 2,
    "redq_sac.n_evals_per_epoch": 10,
    "redq_sac.evaluate_bias": False,
}
DMC = {
    **SAC,
    "redq_sac.utd_ratio": 20,
    "redq_sac.disable_diffusion": False,
    "redq_sac.retrain_diffusion_every": 10_000,
    "redq_sac.num_samples": 200_000,
    "redq_sac.diffusion_sample_ratio": 0.5,
    "redq_sac.diffusion_start": 0,
    "redq_sac.skip_reward_norm": True,
    "redq_sac.model_terminals": False,
    "modelled_terminals": False,
    "split_diffusion_samples.modelled_terminals": False,
    "split_diffusion_samples.terminal_threshold": 0.5,
    "construct_diffusion_model.denoising_network": "ResidualMLPDenoiser",
    "construct_diffusion_model.normalizer_type": "standard",
    "construct_diffusion_model.disable_terminal_norm": True,
    "ResidualMLPDenoiser.mlp_width": 1024,
    "ResidualMLPDenoiser.num_layers": 6,
    "ResidualMLPDenoiser.dim_t": 256,
    "REDQTrainer.train_num_steps": 100_000,
    "REDQTrainer.train_batch_size": 256,
    "REDQTrainer.train_lr": 3e-4,
    "REDQTrainer.lr_scheduler": "cosine",
    "REDQTrainer.save_and_sample_every": None,
    "SimpleDiffusionGenerator.num_sample_steps": 128,
    "SimpleDiffusionGenerator.sample_batch_size": 100_000,
}
MODELLED = ("modelled_terminals", "redq_sac.model_terminals",
            "split_diffusion_samples.modelled_terminals")  # fmt: skip
PGR = {
    "redq_sac.relevance": "curiosity",
    "redq_sac.prompt_fraction": 0.25,
    "redq_sac.guidance": 2.0,
    "REDQTrainer.cond_dropout": 0.25,
}
FILES = {
    "sac": SAC,
    "redq": {**SAC, "redq_sac.utd_ratio": 20, "redq_sac.num_Q": 10},
    "sac_synther_dmc": DMC,
    "sac_synther_openai": {
        **DMC,
        "redq_sac.skip_reward_norm": False,
        **dict.fromkeys(MODELLED, True),
    },
}
FILES |= {
    f"sac_pgr_{suite}": {**FILES[f"sac_synther_{suite}"], **PGR} for suite in ("dmc", "openai")
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gin.clear_config()
    yield
    gin.clear_config()


def bindings(name):
    return gin_config.bindings_of(gin_config.read(gin_config.find(f"config/online/{name}.gin")))


@pytest.mark.parametrize("name", FILES)
def test_the_papers_values(name):
    assert bindings(name) == FILES[name]


def test_there_are_no_other_files():
    found = {path.stem for path in (ROOT / "config/online").glob("*.gin")}
    assert found == {*FILES, *(f"{name}_small" for name in FILES), "agent_small"}


@pytest.mark.parametrize("name", FILES)
def test_the_small_files_change_costs_model_space_and_the_agents_size_only(name):
    small, full, agent = bindings(f"{name}_small"), bindings(name), bindings("agent_small")
    changed = {key for key, value in small.items() if full.get(key) != value}
    of_cost = {"ResidualMLPDenoiser", "REDQTrainer", "ElucidatedDiffusion"}
    of_cost |= {"SimpleDiffusionGenerator"}
    others = {key for key in changed if key.split(".")[0] not in of_cost}
    space = {"normalizer_type": "transitions", "disable_terminal_norm": False}
    space = {f"construct_diffusion_model.{key}": value for key, value in space.items()}
    if "synther" in name or "pgr" in name:
        assert {key: small[key] for key in space} == space
        others -= set(space)
    if name in ("sac_synther_dmc", "sac_pgr_dmc"):
        others.remove("redq_sac.skip_reward_norm")  # so little training needs rewards of unit scale
    assert others <= {"redq_sac.retrain_diffusion_every", "redq_sac.num_samples", *agent}
    assert {key: small[key] for key in agent} == agent  # the same agent for all


@pytest.mark.parametrize("size", ["", "_small"])
@pytest.mark.parametrize("suite", ["dmc", "openai"])
def test_what_is_modelled(suite, size, tmp_path):
    """Terminals and normalised rewards with OpenAI gym; neither on the DeepMind Control Suite. In
    the small files the model space of transitions maps all columns, rewards and flags as well."""
    gin_config.parse(
        [f"config/online/sac_synther_{suite}{size}.gin"],
        ["ResidualMLPDenoiser.mlp_width = 8", "ResidualMLPDenoiser.dim_t = 8",
         "REDQTrainer.train_num_steps = 2", "SimpleDiffusionGenerator.num_sample_steps = 2"],
    )  # fmt: skip
    config = OnlineConfig(target_entropy="auto")  # as the command binds it
    assert not config.disable_diffusion
    refill = SyntheticRefill(
        seed=0, device="cpu", folder=tmp_path, num_samples=20,
        skip_reward_norm=config.skip_reward_norm, model_terminals=config.model_terminals,
    )  # fmt: skip
    real, synthetic = RowBuffer(LAYOUT, 50), RowBuffer(LAYOUT, 20)
    real.insert(torch.from_numpy(random_rows(50)))
    refill(0, real, synthetic)
    (file,) = tmp_path.glob("round-0/model-*.pt")
    loaded = load_model(file)
    reward = LAYOUT.columns["rewards"].start
    space = loaded.model.normalizer
    assert type(space) is (TransitionSpace if size else Normalizer)
    assert loaded.layout.terminals == (suite == "openai")
    expected = {LAYOUT.row_dim - 1} if suite == "openai" else {reward}
    assert set(space.skip_dims) == (set() if size else expected)
