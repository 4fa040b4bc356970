import gin
import pytest
import torch

from synther.diffusion import model_io
from synther.diffusion.denoiser_network import NETWORKS
from synther.files.checkpoint import CheckpointError
from synther.transitions import TransitionLayout
from tests.diffusion.models import LAYOUT, tiny_model, tiny_trainer


@pytest.fixture
def written(tmp_path):
    trainer = tiny_trainer(tmp_path, 120)
    trainer.train()
    return trainer, tmp_path / "model-120.pt"


def test_a_model_describes_itself(written):
    trainer, path = written
    loaded = model_io.load_model(path)
    assert loaded.layout == LAYOUT
    assert loaded.step == 120
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    for name, value in trainer.ema.ema_model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    # EMA weights, not the last ones.
    weight = "net.proj.weight"
    assert not torch.equal(
        loaded.model.state_dict()[weight], trainer.diffusion_model.state_dict()[weight]
    )


def test_gins_global_state_has_no_say(written):
    _, path = written
    expected = model_io.load_model(path).config
    with gin.unlock_config():
        gin.parse_config(
            "ResidualMLPDenoiser.mlp_width = 99\nElucidatedDiffusion.sigma_max = 3\n"
            "ElucidatedDiffusion.sampler = 'heun_deterministic'"
        )
    try:
        loaded = model_io.load_model(path)
        assert model_io.describe(loaded.model) == expected
        assert loaded.model.sigma_max == 80
        assert "mlp_width = 99" in gin.config_str()
    finally:
        gin.clear_config()


def test_describe_and_build_are_inverse():
    model = tiny_model("minmax")
    model.sigma_max, model.S_churn, model.sampler = 40.0, 12.0, "heun_deterministic"
    config = model_io.describe(model)
    assert model_io.describe(model_io.build(config)) == config
    assert config["diffusion_arguments"]["S_churn"] == 12


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_release_2023_falls_back_to_its_gin_file(golden, kind, tmp_path):
    path = golden / f"release2023_{kind}" / "model-300.pt"
    loaded = model_io.load_model(path)
    assert loaded.layout is None
    arguments = loaded.config["network_arguments"]
    assert (arguments["mlp_width"], arguments["dim_t"], arguments["num_layers"]) == (64, 32, 3)
    assert loaded.config["normalizer_type"] == kind
    assert loaded.model.S_noise == 1.003
    layout = TransitionLayout(11, 3)
    assert model_io.load_model(path, layout=layout).layout == layout

    alone = tmp_path / "model-300.pt"
    alone.write_bytes(path.read_bytes())
    assert model_io.load_model(alone).config == loaded.config
    alone.with_name("config.gin").write_text(
        "act = 'gelu'\nResidualMLPDenoiser.activation = %act\nElucidatedDiffusion.S_churn = 7"
    )
    config = model_io.load_model(alone).config
    assert config["network_arguments"]["activation"] == "gelu"
    assert config["diffusion_arguments"]["S_churn"] == 7


def test_the_layout_of_a_checkpoint_is_the_one_it_holds(written):
    _, path = written
    loaded = model_io.load_model(path)
    # The file's own word counts, whatever lies beside it.
    path.with_name("config.gin").write_text("make_inputs.modelled_terminals = False")
    assert loaded.layout_for(3, 2) == LAYOUT
    # Rows of (4, 1) without a terminal column are as wide as those of (3, 2) with one.
    with pytest.raises(CheckpointError) as error:
        loaded.layout_for(4, 1)
    assert str(error.value) == (
        f"{path}: the model's rows have 3 observation and 2 action columns, expected 11 columns: 4 "
        "observation and 1 action columns, with a terminal column (as the file says)"
    )


@pytest.fixture
def release(golden, tmp_path):
    """A checkpoint of the 2023 release, 27 columns, without its config.gin."""
    path = tmp_path / "model-300.pt"
    path.write_bytes((golden / "release2023_standard" / "model-300.pt").read_bytes())
    return path


@pytest.mark.parametrize(
    ("gin_text", "terminals"),
    [
        (None, True),
        ("Trainer.train_lr = 0.1", True),
        ("make_inputs.modelled_terminals = True\nmodelled_terminals = False", True),
        ("modelled_terminals = False\nmake_inputs.modelled_terminals = %modelled_terminals", False),
        ("modelled_terminals = False", False),  # what the online gin files have
        ("split_diffusion_samples.modelled_terminals = False", False),
    ],
)
def test_a_release_2023_layout_comes_from_its_gin_file_not_from_its_width(
    release, gin_text, terminals
):
    """27 columns are those of (11, 3) with a terminal column, and of (11, 4) without one."""
    if gin_text is not None:
        release.with_name("config.gin").write_text(gin_text)
    loaded = model_io.load_model(release)
    action_dim = 3 if terminals else 4
    assert loaded.layout_for(11, action_dim) == TransitionLayout(11, action_dim, terminals)
    expected, word = (28, "with") if terminals else (26, "without")
    with pytest.raises(CheckpointError) as error:
        loaded.layout_for(11, 7 - action_dim)
    for part in (
        f"{release}: the model's rows have 27 columns, expected {expected} columns",
        f"11 observation and {7 - action_dim} action columns, {word} a terminal column",
        str(release.with_name("config.gin")),
    ):
        assert part in str(error.value)


def test_a_gin_file_that_says_neither_is_named(release):
    release.with_name("config.gin").write_text("make_inputs.modelled_terminals = 'perhaps'")
    with pytest.raises(CheckpointError, match=r"config\.gin: make_inputs.*'perhaps'"):
        model_io.load_model(release).layout_for(11, 3)


def test_layouts_that_do_not_fit_are_named(written, golden):
    _, path = written
    with pytest.raises(CheckpointError, match="observation_dim=4"):
        model_io.load_model(path, layout=TransitionLayout(4, 2))
    release = golden / "release2023_standard" / "model-300.pt"
    with pytest.raises(CheckpointError, match="27 columns"):
        model_io.load_model(release, layout=TransitionLayout(4, 2))
    payload = torch.load(path, weights_only=True)
    payload["layout"]["terminals"] = None
    torch.save(payload, path)
    with pytest.raises(CheckpointError, match=r"model-120\.pt: not a diffusion model"):
        model_io.load_model(path)


def test_parameters_that_do_not_fit_are_named(written):
    _, path = written
    payload = torch.load(path, weights_only=True)

    def reload(change):
        changed = {**payload, "ema": dict(payload["ema"])}
        change(changed["ema"])
        torch.save(changed, path)
        return model_io.load_model(path)

    name = "ema_model.net.proj.weight"
    with pytest.raises(CheckpointError, match=r"'net.proj.weight' has shape \(1, 2\)"):
        reload(lambda ema: ema.update({name: torch.zeros(1, 2)}))
    with pytest.raises(CheckpointError, match=r"'net.proj.weight' is missing"):
        reload(lambda ema: ema.pop(name))
    with pytest.raises(CheckpointError, match=r"'net.extra' has no place"):
        reload(lambda ema: ema.update({"ema_model.net.extra": torch.zeros(1)}))


def test_unknown_networks_are_named(written):
    _, path = written
    payload = torch.load(path, weights_only=True)
    payload["config"]["network"] = "Mystery"
    torch.save(payload, path)
    with pytest.raises(CheckpointError, match=r"'Mystery' is not known.*ResidualMLPDenoiser"):
        model_io.load_model(path)
    assert "Mystery" not in NETWORKS


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


def test_pickled_code_is_refused_and_not_run(tmp_path):
    target = tmp_path / "ran"
    torch.save({"ema": Bomb(target), "step": 1}, tmp_path / "model-1.pt")
    with pytest.raises(CheckpointError, match="refused"):
        model_io.load_model(tmp_path / "model-1.pt")
    assert not target.exists()


def test_other_checkpoints_are_refused(tmp_path):
    torch.save({"actor": torch.zeros(3)}, tmp_path / "model-1.pt")
    with pytest.raises(CheckpointError, match="expected a model"):
        model_io.load_model(tmp_path / "model-1.pt")
    torch.save({"ema": {"ema_model.w": torch.zeros(3)}}, tmp_path / "model-2.pt")
    with pytest.raises(CheckpointError, match="not a ResidualMLPDenoiser"):
        model_io.load_model(tmp_path / "model-2.pt")
