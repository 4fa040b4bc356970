"""The SynthER agent takes the updates of ``REDQSACAgent`` on batches that are partly synthetic.

RLPD is reinforcement learning with prior data (Ball et al. 2023, arXiv 2302.02948), which draws an
exact share of every batch from data of another source; here that source is a diffusion model.
"""

from __future__ import annotations

import torch

from synther.learning.learner import Dims
from synther.learning.replay import Batch, RowBuffer, sample_mixed
from synther.online.redq_sac import AgentConfig, REDQSACAgent
from synther.transitions import TransitionLayout


class REDQRLPDAgent(REDQSACAgent):
    """``REDQSACAgent`` with a second buffer, of rows that a diffusion model made.

    Args:
        config, dims, seed, device: see :class:`REDQSACAgent`.
        diffusion_buffer_size: synthetic rows held at most.
        diffusion_sample_ratio: the synthetic share of every batch, once there are synthetic rows.
            The count is rounded to whole rows, to even where it is halfway.
    """

    def __init__(
        self,
        config: AgentConfig,
        dims: Dims,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        diffusion_buffer_size: int = 1_000_000,
        diffusion_sample_ratio: float = 0.5,
    ) -> None:
        super().__init__(config, dims, seed, device)
        self.synthetic = RowBuffer(TransitionLayout(*dims), diffusion_buffer_size, device)
        self.synthetic_rows = round(diffusion_sample_ratio * config.batch_size)

    def draw(self) -> Batch:
        """The batches of one block ``[S, U, B, ...]``: in each, the real rows come first."""
        if not len(self.synthetic):
            return super().draw()
        real = self.config.batch_size - self.synthetic_rows
        return sample_mixed(
            (self.replay, real, self.generators["data"]),
            (self.synthetic, self.synthetic_rows, self.generators["synthetic"]),
            batches=self.config.utd_ratio,
        )
