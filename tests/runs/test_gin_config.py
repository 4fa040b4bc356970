import gin
import pytest

from synther.diffusion import train_diffuser  # noqa: F401 - makes names configurable
from synther.installed import CHECKOUT as ROOT
from synther.online import online_exp  # noqa: F401
from synther.runs import gin_config
from synther.runs.gin_config import GinError

CONFIGS = sorted((ROOT / "config").glob("*.gin"))


@pytest.fixture(autouse=True)
def _clean():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_file_parses_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gin_config.parse([f"config/{path.name}"])
    assert gin.query_parameter("SimpleDiffusionGenerator.sample_batch_size") > 0


def test_values_of_the_papers_files():
    gin_config.parse(["config/resmlp_denoiser.gin"])
    expected = {
        "ResidualMLPDenoiser.mlp_width": 2048,
        "ResidualMLPDenoiser.dim_t": 128,
        "ResidualMLPDenoiser.num_layers": 6,
        "ResidualMLPDenoiser.layer_norm": False,
        "ElucidatedDiffusion.num_sample_steps": 128,
        "ElucidatedDiffusion.S_noise": 1.003,
        "ElucidatedDiffusion.sigma_data": 1.0,
        "Trainer.train_num_steps": 100_000,
        "Trainer.small_batch_size": 256,
        "Trainer.train_lr": 3e-4,
        "construct_diffusion_model.normalizer_type": "standard",
        "SimpleDiffusionGenerator.sample_batch_size": 100_000,
    }
    assert {name: gin.query_parameter(name) for name in expected} == expected
    gin_config.parse(["config/resmlp_w1024_denoiser.gin"])
    assert gin.query_parameter("ResidualMLPDenoiser.mlp_width") == 1024
    assert gin.query_parameter("ResidualMLPDenoiser.num_layers") == 6


@pytest.mark.parametrize("name", ["transitions", "demo"])
def test_the_new_files_have_the_model_space_of_transitions(name):
    gin_config.parse([f"config/resmlp_{name}_denoiser.gin"])
    expected = {
        "ResidualMLPDenoiser.mlp_width": {"transitions": 2048, "demo": 256}[name],
        "construct_diffusion_model.normalizer_type": "transitions",
        "construct_diffusion_model.disable_terminal_norm": False,
        "SimpleDiffusionGenerator.sampler": "fast",
    }
    assert {key: gin.query_parameter(key) for key in expected} == expected


def test_bindings_win_and_a_second_parse_starts_clean():
    files = ["config/resmlp_denoiser.gin"]
    gin_config.parse(files, ["Trainer.train_num_steps=2000", "modelled_terminals = False"])
    assert gin.query_parameter("Trainer.train_num_steps") == 2000
    assert "modelled_terminals = False" in gin.config_str()
    gin_config.parse(files)
    assert gin.query_parameter("Trainer.train_num_steps") == 100_000
    gin_config.parse(bindings=["Trainer.seed = 1"], clear=False)
    assert gin.query_parameter("Trainer.train_num_steps") == 100_000


def test_includes_beside_the_file_and_from_the_root(tmp_path, monkeypatch):
    (tmp_path / "base.gin").write_text("Trainer.train_lr = 5.0\n")
    top = tmp_path / "top.gin"
    top.write_text(
        "include \"base.gin\"  # beside\ninclude 'config/resmlp_w1024_denoiser.gin'\n"
        "include 'base.gin'\n"
    )
    monkeypatch.chdir("/")
    gin_config.parse([top])
    assert gin.query_parameter("Trainer.train_lr") == 5
    assert gin.query_parameter("ResidualMLPDenoiser.mlp_width") == 1024
    top.write_text("include 'top.gin'\n")
    with pytest.raises(GinError, match="includes itself"):
        gin_config.parse([top])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("Trainer.train_numsteps = 3", "no parameter 'train_numsteps'; did you mean train_num_"),
        ("Trainr.train_lr = 3", "nothing configurable is called 'Trainr'; did you mean Trainer?"),
        ("a = @ResidualMLPDenoser", "did you mean ResidualMLPDenoiser?"),
        ("Trainer.lr_scheduler = cosine", "text goes in quotes"),
        ("Trainer.train_lr", "binding 'Trainer.train_lr'"),
    ],
)
def test_errors_say_what_was_meant(binding, message):
    with pytest.raises(GinError, match=message):
        gin_config.parse(bindings=[binding])


def test_missing_files_say_where_was_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GinError) as error:
        gin_config.parse(["config/none.gin"])
    assert str(tmp_path / "config/none.gin") in str(error.value)
    assert str(ROOT / "config/none.gin") in str(error.value)


def test_errors_in_files_name_the_file(tmp_path):
    path = tmp_path / "bad.gin"
    path.write_text("Trainer.train_lr = \n")
    with pytest.raises(GinError, match=r"bad\.gin"):
        gin_config.parse([path])


def test_bindings_are_read_without_gins_global_state():
    text = (
        "width = 7\nterminals = %width\nResidualMLPDenoiser.mlp_width = %width\n"
        "a.b.Trainer.train_lr = 3e-4\nx.net = @ResidualMLPDenoiser\nx.y = %terminals\n"
    )
    found = gin_config.bindings_of(text)
    assert found["ResidualMLPDenoiser.mlp_width"] == found["x.y"] == 7
    assert found["Trainer.train_lr"] == 3e-4
    assert found["x.net"] == "ResidualMLPDenoiser"
    assert gin.config_str() == ""
    for bad in ("x.y = %nothing", "x.y = ", "a = %b\nb = %a"):
        with pytest.raises(GinError):
            gin_config.bindings_of(bad)
