"""Collectives of one process; of several they are tested where a training uses them."""

from __future__ import annotations

import torch

from pipeline.engine.collectives import gather_batch, num_workers


def test_gather_batch_single_process_returns_the_batch() -> None:
    batch = torch.randn(3, 2)
    assert num_workers() == 1
    torch.testing.assert_close(gather_batch(batch), batch, rtol=0, atol=0)
