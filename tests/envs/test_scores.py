import json
from pathlib import Path

import numpy as np
import pytest

from synther.envs import normalized_score, reference_scores

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "d4rl_scores.json").read_text())
LOCOMOTION = ("halfcheetah", "hopper", "walker2d", "ant")
OURS = [
    name
    for name in GOLDEN
    if name.split("-")[0] in LOCOMOTION
    or (name.startswith("maze2d") and "open" not in name)
    or (name.startswith("antmaze") and name.endswith("v2"))
]


@pytest.mark.parametrize("name", OURS)
def test_reference_scores_are_d4rls(name: str) -> None:
    assert reference_scores(name) == tuple(GOLDEN[name])


def test_the_scores_file_covers_what_the_test_thinks() -> None:
    assert len(OURS) == 4 * 17 + 6 + 6


def test_an_environment_has_the_scores_of_its_data_sets() -> None:
    assert reference_scores("Hopper-v2") == tuple(GOLDEN["hopper-medium-v2"])


@pytest.mark.parametrize("name", ["cheetah-run-v0", "Hopper-v5", "no-such-thing"])
def test_no_reference(name: str) -> None:
    assert reference_scores(name) is None
    with pytest.raises(ValueError, match=f"'{name}' has no reference scores"):
        normalized_score(name, 1.0)


def test_normalized_score_keeps_the_shape_and_the_two_anchors() -> None:
    low, high = GOLDEN["hopper-medium-v2"]
    returns = [[low, high], [(low + high) / 2, 2 * high - low]]
    scores = normalized_score("hopper-medium-v2", returns)
    np.testing.assert_allclose(scores, [[0, 100], [50, 200]], atol=1e-12)
    assert float(normalized_score("hopper-medium-v2", high)) == pytest.approx(100)
