"""Commands configure gin for the whole process; no test may see what another one left."""

from collections.abc import Iterator

import gin
import pytest

from synther.diffusion.successors import TransitionEnsemble, fit_ensemble
from tests.diffusion.successors.law import draw


@pytest.fixture(autouse=True)
def _no_gin_configuration() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(scope="session")
def law_ensemble() -> TransitionEnsemble:
    """An ensemble of 12 000 rows of the law in ``successors/law.py``; nobody changes it."""
    rows, _ = draw(12_000, seed=0)
    return fit_ensemble(rows, seed=1, members=3, width=64, steps=700)
