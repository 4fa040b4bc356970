"""Commands configure gin for the whole process; no test may see what another one left."""

from collections.abc import Iterator

import gin
import pytest


@pytest.fixture(autouse=True)
def _no_gin_configuration() -> Iterator[None]:
    gin.clear_config()
    yield
    gin.clear_config()
