"""The loop that fine-tunes: one process, any task, resumed by position.

The clock counts `samples_seen`. A checkpoint holds network, optimiser and clock; order, sizes,
flips, what the network draws, and the rate are functions of the clock and the seed.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config.finetune import FinetuneConfig
from pipeline.engine.gpu import LossGuard
from pipeline.engine.launch import Report
from pipeline.engine.metrics import MetricsLog
from pipeline.engine.state import load_state, save_state
from pipeline.eval.dense.schedule import learning_rate
from pipeline.eval.dense.task import Task, seeded
from pipeline.samples.order import Order
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead, StepRows
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts
from pipeline.terminal.progress import console

CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"
CLOCK = "samples_seen"
"""Counts on in the test."""
_LOG_STEPS = 50
_TEST_LOG_S = 5.0


def train(
    task: Task[Any],
    config: FinetuneConfig,
    folder: Path,
    device: torch.device,
    fingerprint: str,
    report: Report,
) -> None:
    """Train the network of `task`, fresh and on `device`, to the end, going on from `folder`'s
    checkpoint unless that has another `fingerprint`; `report` is called after every step, with
    metrics after some, and the step is saved where it says so.

    Raises:
        Interrupted: by a signal, after the step at hand was saved.
        UserError: if the loss is not finite, of which nothing is saved, or a file is damaged.
    """
    network = task.network
    optimizer = build_optimizer(network, config, task.decays_all)
    first = 0
    state = load_state(folder / CHECKPOINT_FILE, device, fingerprint)
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first = int(state["samples_seen"]) // config.batch
        if first < config.steps:
            console.print(f"finetune  resumed at {first * config.batch:,} samples")
    rows = StepRows(Order([task.num_train], config.seed, "finetune"), config.batch)
    num_ahead = 0 if device.type == "cpu" else LOADED_AHEAD
    loaded = LoadedAhead(lambda step: task.load(rows.rows(step), step), num_ahead)
    log = MetricsLog(folder / METRICS_FILE, CLOCK, first * config.batch)
    guard, saved_at = LossGuard(), time.monotonic()
    network.train()
    with deferred_interrupts() as is_interrupted, closing(loaded):
        for step in range(first, config.steps):
            batch, rate = loaded.get(step), learning_rate(config, step)
            with seeded(config.seed, "finetune/step", step, device):
                loss = task.loss(batch)
            guard.watch(
                loss,
                f"finetune: the loss is not finite at step {step}; lower finetune.learning_rate",
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            samples_seen = (step + 1) * config.batch
            is_last = step + 1 == config.steps
            metrics = {}
            if (step + 1) % _LOG_STEPS == 0 or is_last:
                metrics = {"loss": float(loss.detach()), "learning_rate": rate}
                log.write(samples_seen, metrics)
            is_asked = report(samples_seen, metrics)
            is_due = is_asked or time.monotonic() - saved_at > config.checkpoint_interval_s
            if is_last or is_due or is_interrupted():
                guard.settle()
                save_state(
                    folder / CHECKPOINT_FILE,
                    {
                        "fingerprint": fingerprint,
                        "samples_seen": samples_seen,
                        "network": network.state_dict(),
                        "optimizer": optimizer.state_dict(),
                    },
                )
                saved_at = time.monotonic()
            if is_interrupted():
                raise Interrupted


def test(
    task: Task[Any], config: FinetuneConfig, folder: Path, num_images: int, report: Report
) -> dict[str, float]:
    """Scores of the network that `train` left in `task`; `report` hears of the `num_images` as they
    are tested, with the scores after the last one.
    """
    trained = config.steps * config.batch
    log, logged_at = MetricsLog(folder / METRICS_FILE, CLOCK, trained), time.monotonic()

    def watch(done: int) -> None:
        nonlocal logged_at
        metrics: dict[str, float] = {}
        if time.monotonic() - logged_at > _TEST_LOG_S:
            metrics, logged_at = {"num_tested": done}, time.monotonic()
            log.write(trained + done, metrics)
        report(trained + done, metrics)

    scores = task.evaluate(watch)
    log.write(trained + num_images, scores)
    report(trained + num_images, scores)
    return scores


def build_optimizer(
    network: nn.Module, config: FinetuneConfig, decays_all: bool
) -> torch.optim.Optimizer:
    """SGD on what is not frozen; biases and batch normalisation decay only if all does."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decaying = [parameter for parameter in trained if decays_all or parameter.ndim > 1]
    kept = [parameter for parameter in trained if not (decays_all or parameter.ndim > 1)]
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=0.0, momentum=config.momentum)
