"""The host does not wait for the device where it need not: it has work to send there."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from synther.diffusion.generation.npz_stream import NpzStream
from synther.learning.replay import Batch
from synther.online.redq_sac import AgentConfig, REDQSACAgent
from synther.pixels.frame_replay import FrameReplay, PixelBatch
from synther.pixels.image_agent import DrQBC
from synther.pixels.latent_agent import LatentAgent
from synther.transitions import TransitionLayout
from tests.online.helpers import DIMS, TINY_AGENT, random_block
from tests.pixels.helpers import columns, config, episodes, update_at
from tests.pixels.test_image_agent import batch_of
from tests.pixels.test_latents import latent_batch

pytestmark = pytest.mark.gpu
LAYOUT = TransitionLayout(3, 2)


@contextlib.contextmanager
def no_waits() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device(**keys: float) -> REDQSACAgent:
    return REDQSACAgent(AgentConfig(**{**TINY_AGENT, **keys}), DIMS, seed=0, device="cuda")


def online_agent(**keys: float) -> REDQSACAgent:
    agent = on_device(num_Q=4, utd_ratio=4, policy_update_delay=2, **keys)
    width = agent.replay.layout.row_dim
    agent.replay.insert(torch.rand(50, width, device="cuda"))
    agent.train_block()  # the first makes the optimisers' states
    return agent


@pytest.mark.parametrize("keys", [{"num_min": 2}, {"num_min": 1.5}, {"q_target_mode": "rem"}])
def test_a_block_of_online_updates(keys: dict[str, float]) -> None:
    agent = online_agent(**keys)
    with no_waits():
        for _ in range(3):
            agent.train_block()


@pytest.mark.parametrize("algorithm", ["drq_bc", "bc"])
def test_updates_from_pictures_and_of_heads_on_latents(algorithm: str) -> None:
    """The spread of the policy's noise is another at each of them."""
    settings = config(algo=algorithm, device="cuda", std_steps=4)
    pictures, other = (
        DrQBC(settings, 2, torch.Generator().manual_seed(3), "cuda") for _ in range(2)
    )
    heads = LatentAgent(settings, other, other.heads)
    for learner, batch in (
        (pictures, PixelBatch(*(each.to("cuda") for each in batch_of()))),
        (heads, Batch(*(each.to("cuda") for each in latent_batch()))),
    ):
        noise = learner.noise(torch.Generator("cuda").manual_seed(1), 1)
        update_at(learner, 1, batch, noise)  # which makes the optimisers' states
        with no_waits():
            for step in (2, 3):
                update_at(learner, step, batch, noise)


def test_a_fractional_count_is_met_on_average() -> None:
    """Of the different ones among the members; on CUDA a smaller subset has one of them twice."""
    agent = on_device(num_Q=4, num_min=1.3, utd_ratio=2000, batch_size=1)
    drawn = [each for each in agent.draw_noise().members if each is not None]
    assert {tuple(each.shape) for each in drawn} == {(2,)}
    chosen = [tuple(sorted(set(each.tolist()))) for each in drawn]
    for size in (1, 2):
        subsets = Counter(each for each in chosen if len(each) == size)
        assert len(subsets) == math.comb(4, size)
        assert stats.chisquare(list(subsets.values())).pvalue > 1e-3
    two = sum(len(each) == 2 for each in chosen)
    assert abs(two - 600) < 5 * math.sqrt(2000 * 0.3 * 0.7)


def test_a_critic_that_is_there_twice_leaves_the_minimum_as_it_is() -> None:
    agent = on_device(num_Q=4)
    block = random_block(1, 8)
    inputs = torch.cat([block.states, block.actions], dim=-1)[:, 0].float().to("cuda")
    q = agent.target_critics.mlp
    for once, twice in (([2], [2, 2]), ([3, 1], [3, 1, 3])):
        few, more = (
            q(inputs, members=torch.tensor(each, device="cuda")).amin(dim=1)
            for each in (once, twice)
        )
        torch.testing.assert_close(few, more)


def test_rows_go_to_disk_beside_the_work_on_the_next_batch(tmp_path: Path) -> None:
    """The thread that writes waits for its copy, and not for what came into the stream after it."""
    rows = torch.randn(70, LAYOUT.row_dim)
    told: list[int] = []
    with NpzStream(tmp_path / "rows.npz", LAYOUT, 70, {}) as stream:
        batches = list(rows.to("cuda").split(30))
        with no_waits():
            stream.extend(batches, told.append)
        stream.finish(compress=False, metadata={})
    stored = np.load(tmp_path / "rows.npz")
    for name, expected in LAYOUT.split(rows.numpy()).items():
        np.testing.assert_array_equal(stored[name], expected.reshape(stored[name].shape))
    assert told == [30, 30, 10]


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["on the device", "on the host"])
def test_batches_of_pictures(tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synther.runs.runtime.DEVICE_MEMORY_SHARE", share)
    monkeypatch.setattr("synther.pixels.frame_replay.UPLOADED_AT_ONCE", 7)
    data = episodes(tmp_path, columns((12, 9)))

    def replay(device: str) -> FrameReplay:
        generator = torch.Generator().manual_seed(3)
        return FrameReplay(
            data, frame_stack=3, n_step=3, discount=0.99, batch_size=4, generator=generator,
            device=device,
        )  # fmt: skip

    plain, ours = replay("cpu"), replay("cuda")
    assert (ours._pictures is None) == (share == 0)
    for _ in range(5):
        with no_waits():
            found = ours.sample()
        for tensor, expected in zip(found, plain.sample(), strict=True):
            assert tensor.device.type == "cuda"
            assert torch.equal(tensor.cpu(), expected)
