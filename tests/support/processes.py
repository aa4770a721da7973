"""Processes that start at once, forked from one that has imported torch, and groups of them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

PRELOADED = multiprocessing.get_context("forkserver")
PRELOADED.set_forkserver_preload(
    [
        "pipeline.__main__",
        "pipeline.generate.render",
        "pipeline.generate.stage",
        "pipeline.teacher.checkpoint",
        "pipeline.train.loop",
        "pipeline.train.stage",
        "torch.nn.parallel",
    ]
)


def run_workers(
    scratch: Path, num_workers: int, work: Callable[..., Any], *given: Any
) -> list[Any]:
    """What `work(*given)` returns in each process of a group, by rank."""
    scratch.mkdir(exist_ok=True)
    start_processes(
        _join, (scratch, num_workers, work, given), num_workers, start_method="forkserver"
    )
    paths = [scratch / f"worker-{rank}.pt" for rank in range(num_workers)]
    return [torch.load(path, weights_only=True) for path in paths]


def _join(
    rank: int, scratch: Path, num_workers: int, work: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    # the loopback interface: looking up the host's name may take minutes without a network
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{scratch / 'rendezvous'}", rank=rank, world_size=num_workers
    )
    torch.save(work(*given), scratch / f"worker-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
