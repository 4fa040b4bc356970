"""Real columns against synthetic ones."""

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from synther.online.column_statistics import as_metrics, as_table, compare_columns
from tests.diffusion.models import LAYOUT, random_rows

pytestmark = pytest.mark.arithmetic


def test_fields_against_numpy():
    real, synthetic = random_rows(300), random_rows(90, seed=1)
    metrics = as_metrics(
        compare_columns(LAYOUT, torch.from_numpy(real), torch.from_numpy(synthetic))
    )
    json.dumps(metrics)
    assert len(metrics) == 5 * (2 * 4 + 1)
    for name, where in LAYOUT.columns.items():
        ours, theirs = (rows[:, where].astype(np.float64) for rows in (real, synthetic))
        for side, columns in (("real", ours), ("synthetic", theirs)):
            expected = {
                "mean": columns.mean(axis=0).mean(),
                "std": columns.std(axis=0).mean(),
                "min": columns.min(),
                "max": columns.max(),
            }
            for key, value in expected.items():
                np.testing.assert_allclose(
                    metrics[f"{side}/{name}/{key}"], value, rtol=1e-5, atol=1e-6
                )
        shift = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / ours.std(axis=0)
        np.testing.assert_allclose(metrics[f"mean_shift/{name}"], shift.max(), rtol=1e-4)


def test_the_table_names_the_column_that_fits_worst():
    real = torch.from_numpy(random_rows(300))
    synthetic = real.clone()
    synthetic[:, LAYOUT.columns["next_observations"].start + 2] += 100
    compared = compare_columns(LAYOUT, real, synthetic)
    assert compared["next_observations"].worst == "next_observations[2]"
    assert compared["observations"].shift == 0
    console = Console(width=80)
    with console.capture() as capture:
        console.print(as_table(compared, "Refill 3"))
    text = capture.get()
    assert "…" not in text  # nothing is cut off on a narrow terminal
    assert all(name in text for name in (*LAYOUT.columns, "Refill 3", "[2]"))


def test_constant_columns_are_finite():
    rows = torch.zeros(10, LAYOUT.row_dim)
    metrics = as_metrics(compare_columns(LAYOUT, rows, rows))
    assert np.isfinite(list(metrics.values())).all()
