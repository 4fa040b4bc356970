import copy
from types import SimpleNamespace

import gin
import numpy as np
import pytest
import torch

from synther.diffusion.utils import (
    construct_diffusion_model,
    make_inputs,
    rows_and_layout,
    split_diffusion_samples,
)
from synther.transitions import FIELDS, TransitionError, TransitionLayout
from tests.data import random_transitions
from tests.diffusion.models import TINY, random_rows


def fake_env(observation_dim=3, action_dim=2):
    return SimpleNamespace(
        observation_space=SimpleNamespace(shape=(observation_dim,)),
        action_space=SimpleNamespace(shape=(action_dim,)),
    )


@pytest.mark.parametrize("terminals", [True, False])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_split_undoes_make_inputs(terminals, as_tensor):
    data = random_transitions()
    rows = make_inputs(data, modelled_terminals=terminals)
    assert rows.shape == (64, 9 + terminals)
    assert rows.dtype == np.float32
    samples = torch.from_numpy(rows) if as_tensor else rows
    for target in (TransitionLayout(3, 2, terminals), fake_env()):
        found = split_diffusion_samples(samples, target, modelled_terminals=terminals)
        for name, values in zip(FIELDS, found, strict=True):
            expected = data.arrays()[name]
            if name == "terminals" and not terminals:
                expected = np.zeros_like(expected)
            assert values.dtype == (torch.float32 if as_tensor else np.float32)
            assert np.array_equal(values, expected), name


@pytest.mark.parametrize("terminals", [True, False])
def test_rows_come_with_their_layout_and_gin_decides_on_terminals(terminals):
    data = random_transitions()
    gin.parse_config(
        f"modelled_terminals = {terminals}\nmake_inputs.modelled_terminals = %modelled_terminals"
    )
    rows, layout = rows_and_layout(data)
    assert layout == TransitionLayout(3, 2, terminals)
    assert np.array_equal(rows, make_inputs(data))
    assert np.array_equal(layout.split(rows)["next_observations"], data.next_observations)
    # What a call says goes before what gin says.
    rows, layout = rows_and_layout(data, modelled_terminals=not terminals)
    assert layout.terminals is not terminals
    assert np.array_equal(rows, make_inputs(data, not terminals))


def test_a_model_keeps_the_layout_it_was_built_for():
    layout = TransitionLayout(3, 2, terminals=False)
    model = construct_diffusion_model(random_rows(layout=layout), "standard", TINY, layout=layout)
    assert copy.deepcopy(model).layout == layout
    with pytest.raises(ValueError, match=r"have 9 columns, .*observation_dim=3.*has 10"):
        model.layout = TransitionLayout(3, 2)
    assert construct_diffusion_model(random_rows(), "standard", TINY).layout is None


def test_terminals_are_thresholded():
    rows = np.zeros((4, 10), np.float32)
    rows[:, -1] = [-0.3, 0.5, 0.51, 1.4]
    layout = TransitionLayout(3, 2)
    assert split_diffusion_samples(rows, layout)[4].tolist() == [0, 0, 1, 1]
    assert split_diffusion_samples(rows, layout, terminal_threshold=1.0)[4].tolist() == [0, 0, 0, 1]


def test_rows_of_another_width_are_refused():
    with pytest.raises(TransitionError, match="9 columns"):
        split_diffusion_samples(np.zeros((4, 9), np.float32), TransitionLayout(3, 2))


def test_things_that_are_no_environment_are_refused():
    with pytest.raises(TypeError, match="expected a TransitionLayout"):
        split_diffusion_samples(np.zeros((4, 9), np.float32), "hopper")


def test_skip_dims_do_not_grow_from_call_to_call():
    """Fault of the 2023 release: a mutable default argument."""
    skip = [5]
    for dim in (10, 8, 6):
        rows = random_rows()[:, :dim]
        for dims, expected in (((), (dim - 1,)), (skip, (5, dim - 1) if dim > 6 else (5,))):
            model = construct_diffusion_model(
                rows, "standard", TINY, disable_terminal_norm=True, skip_dims=dims
            )
            assert model.normalizer.skip_dims == expected
    assert skip == [5]
    assert construct_diffusion_model(random_rows(), "minmax", TINY).normalizer.skip_dims == ()


def test_without_terminals_the_last_column_is_an_observation():
    layout = TransitionLayout(3, 2, terminals=False)
    model = construct_diffusion_model(
        random_rows(layout=layout), "standard", TINY, disable_terminal_norm=True, layout=layout
    )
    assert model.normalizer.skip_dims == ()


def test_condition_and_width():
    model = construct_diffusion_model(random_rows(), "standard", TINY, cond_dim=4)
    assert model.net.proj.in_features == 14
    assert model.sample(3, 2, cond=torch.zeros(3, 4)).shape == (3, 10)
    with pytest.raises(ValueError, match="the layout 9"):
        construct_diffusion_model(
            random_rows(), "standard", TINY, layout=TransitionLayout(3, 2, False)
        )
