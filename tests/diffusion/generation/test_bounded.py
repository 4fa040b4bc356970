"""Bounded columns come back distributed as in the data, through training and files."""

import numpy as np
import pytest
import torch

from synther.diffusion.generation.bounded import match_bounded
from synther.diffusion.generation.generator import SimpleDiffusionGenerator
from synther.diffusion.model_io import load_model
from synther.diffusion.norm import Normalizer, TransitionSpace
from synther.diffusion.utils import construct_diffusion_model
from synther.transitions import TransitionLayout
from tests.diffusion.models import TINY, gaussian_model, tiny_trainer

LAYOUT = TransitionLayout(2, 2, terminals=False)


def clipped_rows(count=4_000):
    """Actions that are at a bound in two fifths of the rows."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, LAYOUT.row_dim)).astype(np.float32)
    rows[:, LAYOUT.columns["actions"]] = np.clip(1.2 * rows[:, LAYOUT.columns["actions"]], -1, 1)
    return torch.from_numpy(rows)


ROWS = clipped_rows()


def bounds(rows):
    """Share of the rows at either bound of either action, ``[4]``."""
    actions = rows[:, LAYOUT.columns["actions"]]
    return torch.cat([(actions == bound).double().mean(dim=0) for bound in (-1, 1)])


def test_a_model_whose_spread_is_wrong_gives_the_shares_of_the_data():
    """The exact model of columns that are half as wide as the data's, and not in the middle."""
    model = gaussian_model(TransitionSpace(ROWS, layout=LAYOUT), layout=LAYOUT)
    generator = SimpleDiffusionGenerator(LAYOUT, model, sampler="fast")
    before = bounds(generator.sample_rows(20_000, torch.Generator().manual_seed(2)))
    match_bounded(model, ROWS)
    generator = SimpleDiffusionGenerator(LAYOUT, model, sampler="fast")
    after = bounds(generator.sample_rows(20_000, torch.Generator().manual_seed(2)))
    real = bounds(ROWS)
    # 4 standard errors of 4 000 rows that the edges come from, and of 20 000 that are counted.
    error = 4 * (real * (1 - real) * (1 / 4_000 + 1 / 20_000)).sqrt()
    assert ((before - real).abs() > 2 * error).all()
    assert ((after - real).abs() < error).all()


@pytest.mark.parametrize("of_2023", [True, False])
def test_a_model_that_has_no_bounded_column_draws_nothing(of_2023, monkeypatch):
    free = torch.randn(500, LAYOUT.row_dim, generator=torch.Generator().manual_seed(0))
    normalizer = Normalizer(ROWS) if of_2023 else TransitionSpace(free, layout=LAYOUT)
    model = gaussian_model(normalizer, layout=LAYOUT)
    monkeypatch.setattr(type(model), "sample", lambda *_, **__: pytest.fail("it drew samples"))
    match_bounded(model, ROWS if of_2023 else free)


def test_it_is_in_the_checkpoint_and_a_resumed_run_ends_in_the_same_bits(tmp_path):
    def trainer(folder):
        torch.manual_seed(0)
        model = construct_diffusion_model(ROWS, "transitions", TINY, layout=LAYOUT)
        return tiny_trainer(folder, steps=120, model=model, layout=LAYOUT, dataset=ROWS)

    whole = trainer(tmp_path / "whole")
    whole.train(finish=match_bounded)
    cut = trainer(tmp_path / "cut")
    cut.train(60)
    resumed = trainer(tmp_path / "cut")
    resumed.load_latest()
    resumed.train(finish=match_bounded)
    matched = whole.ema.ema_model.normalizer
    assert not torch.equal(matched.decoding, matched.latents)
    latents = torch.randn(100, LAYOUT.row_dim)
    for folder in ("whole", "cut"):
        model = load_model(tmp_path / folder / "model-120.pt").model
        assert torch.equal(model.normalizer.unnormalize(latents), matched.unnormalize(latents))


def test_a_file_that_is_older_samples_what_it_did_and_trains_on(tmp_path):
    torch.manual_seed(0)
    model = construct_diffusion_model(ROWS, "transitions", TINY, layout=LAYOUT)
    trainer = tiny_trainer(tmp_path, steps=110, model=model, layout=LAYOUT, dataset=ROWS)
    trainer.train(100)
    path = trainer.save()
    latents = torch.randn(100, LAYOUT.row_dim)
    expected = trainer.ema.ema_model.normalizer.unnormalize(latents)
    payload = torch.load(path, weights_only=True)
    for part in (payload["model"], payload["ema"]):
        for name in [each for each in part if each.endswith("decoding")]:
            del part[name]
    torch.save(payload, path)
    assert torch.equal(load_model(path).model.normalizer.unnormalize(latents), expected)
    torch.manual_seed(0)
    model = construct_diffusion_model(ROWS, "transitions", TINY, layout=LAYOUT)
    again = tiny_trainer(tmp_path, steps=110, model=model, layout=LAYOUT, dataset=ROWS)
    assert again.load_latest() == path
    assert torch.equal(again.ema.ema_model.normalizer.unnormalize(latents), expected)
    again.train(finish=match_bounded)
