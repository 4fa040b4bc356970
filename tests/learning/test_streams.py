"""Random numbers of several seeds."""

import pytest
import torch

from synther.learning.streams import BlockStream, generators_for
from tests.devices import DEVICE

pytestmark = pytest.mark.any_device


def draw(generator: torch.Generator, updates: int) -> tuple[torch.Tensor, ...]:
    return (
        torch.randn(updates, 4, generator=generator, device=generator.device),
        torch.randint(100, (updates, 2), generator=generator, device=generator.device),
    )


def stream(seeds: list[int]) -> BlockStream:
    return BlockStream(draw, generators_for(seeds, "noise", DEVICE))


def test_a_seed_draws_the_same_whoever_draws_beside_it() -> None:
    together, alone = stream([4, 5, 6]), stream([6])
    for _ in range(2 * BlockStream.BLOCK + 3):
        for ours, theirs in zip(together.next(), alone.next(), strict=True):
            assert torch.equal(ours[2], theirs[0])


def test_every_update_gets_fresh_numbers() -> None:
    drawn = stream([0, 1])
    seen = torch.stack([drawn.next()[0] for _ in range(2 * BlockStream.BLOCK)])
    assert len(seen.flatten().unique()) == seen.numel()


def test_purposes_and_seeds_are_independent() -> None:
    first = [
        torch.randn(8, generator=generator, device=DEVICE)
        for purpose in ("init", "data", "noise", "synthetic")
        for generator in generators_for([0, 1, 2], purpose, DEVICE)  # type: ignore[arg-type]
    ]
    assert len(torch.cat(first).unique()) == 8 * len(first)


def test_a_saved_stream_goes_on_where_it_stood() -> None:
    for handed_out in (0, 1, BlockStream.BLOCK - 1, BlockStream.BLOCK, BlockStream.BLOCK + 5):
        original = stream([1, 2])
        for _ in range(handed_out):
            original.next()
        state = original.state_dict()
        following = [original.next() for _ in range(BlockStream.BLOCK + 2)]
        copy = stream([1, 2])
        copy.load_state_dict(state)
        for expected in following:
            for ours, theirs in zip(copy.next(), expected, strict=True):
                assert torch.equal(ours, theirs)
