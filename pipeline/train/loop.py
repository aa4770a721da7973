"""The training loop: the same under Ray Train, `torchrun` and in one plain process.

The clock counts `samples_seen`. A checkpoint holds networks, optimiser and clock; everything else –
order, views, learning rate – is a function of the clock, so a run that was killed ends as one that
was not.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from pipeline.distributed import num_workers, worker_rank
from pipeline.interrupt import Interrupted, deferred_interrupts
from pipeline.metrics import MetricsLog
from pipeline.progress import console
from pipeline.state import load_state, save_state
from pipeline.train.batch_norm import synchronise_batch_norm
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.method import Method, check_output
from pipeline.train_config import TrainConfig
from pipeline.workers import Report
from shards.atomic import write_atomic
from shards.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"
STUDENT_FILE = "student.safetensors"
LOG_STEPS = 10


def steps_per_epoch(config: TrainConfig, num_real: int) -> int:
    """Steps of one epoch: num_real // global_batch as in the paper, at least 1."""
    return max(1, num_real // config.global_batch)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Rate in `epoch`: linear in the global batch, cosine to 0, stepped per epoch."""
    base = config.learning_rate * config.global_batch / 256
    return base * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))


def train(
    config: TrainConfig,
    shards: TrainingShards,
    method: Method,
    folder: Path,
    device: torch.device,
    fingerprint: str,
    report: Report,
) -> None:
    """Train to the end, going on from `folder`'s checkpoint, and leave the student there.

    Args:
        config: what to train.
        shards: where from.
        method: fresh from `build_method`.
        folder: gets checkpoint, metrics and `student.safetensors`; shared by all workers, written
            by rank 0.
        device: of this worker.
        fingerprint: of the training; a checkpoint of another one is refused.
        report: called with (samples_seen, metrics) after each logged step, on every rank.

    Raises:
        Interrupted: by a signal, after the step at hand was saved.
        UserError: if the loss is not finite, before the optimiser sees it.
    """
    rank, workers = worker_rank(), num_workers()
    stream = BatchStream(shards, config, type(method), device, rank=rank, num_workers=workers)
    method = synchronise_batch_norm(method, device).to(device)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.2-1.5 x on CPUs
    optimizer = torch.optim.SGD(
        method.parameter_groups(),
        lr=0.0,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    samples_seen = _resume(method, optimizer, folder, fingerprint, device)
    wrapped: nn.Module = (
        DistributedDataParallel(method, broadcast_buffers=False) if workers > 1 else method
    )
    epoch_steps = steps_per_epoch(config, len(shards.real))
    num_steps = config.epochs * epoch_steps
    log = _Log(folder, samples_seen) if rank == 0 else None
    saved_at = time.monotonic()
    wrapped.train()
    if samples_seen and rank == 0:
        console.print(f"train     resumed at {samples_seen:,} samples")
    with deferred_interrupts() as is_interrupted, closing(stream):
        for step in range(samples_seen // config.global_batch, num_steps):
            rate = learning_rate(config, step // epoch_steps)
            output = check_output(wrapped(stream.batch(step)), config)
            if not output.loss.isfinite():
                raise UserError(
                    f"train: the loss is not finite at step {step}; lower train.learning_rate"
                )
            _update(optimizer, output.loss, rate, learning_rate(config, 0))
            samples_seen = (step + 1) * config.global_batch
            is_last = step + 1 == num_steps
            if (step + 1) % LOG_STEPS == 0 or is_last:
                epoch = (step + 1) / epoch_steps
                metrics = {**output.metrics(), "learning_rate": rate, "epoch": epoch}
                if log is not None:
                    log.write(samples_seen, metrics)
                report(samples_seen, metrics)
            is_due = time.monotonic() - saved_at > config.checkpoint_interval_s
            if rank == 0 and (is_last or is_due or is_interrupted()):
                shards.check_unchanged()
                _save(method, optimizer, samples_seen, folder, fingerprint)
                saved_at = time.monotonic()
            if is_interrupted():
                raise Interrupted
    if not all(parameter.isfinite().all() for parameter in method.parameters()):
        raise UserError("train: the student's weights are not finite; lower train.learning_rate")
    if rank == 0:
        export_student(method, config, folder)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, fixed_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = fixed_rate if group.get("fixed_rate") else rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def export_student(method: Method, config: TrainConfig, folder: Path) -> None:
    """Write the backbone under its names in torchvision or timm (without the classifier).

    The file's metadata has one entry, "student": JSON of the architecture, of a ResNet's width and
    stem, and of the normalisation of images in [0, 1]. One, because the order of several would not
    be reproducible.
    """
    description = {
        **config.student.backbone,
        "pixel_mean": config.pixel_mean,
        "pixel_std": config.pixel_std,
    }
    metadata = {"student": json.dumps(description)}
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in method.backbone.state_dict().items()
    }
    write_atomic(folder / STUDENT_FILE, save(tensors, metadata))


def _save(
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples_seen: int,
    folder: Path,
    fingerprint: str,
) -> None:
    state = {
        "fingerprint": fingerprint,
        "samples_seen": samples_seen,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    save_state(folder / CHECKPOINT_FILE, state)


def _resume(
    method: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: Path,
    fingerprint: str,
    device: torch.device,
) -> int:
    """Load the checkpoint, if there is one; returns its `samples_seen`."""
    state = load_state(folder / CHECKPOINT_FILE, device, fingerprint)
    if state is None:
        return 0
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["samples_seen"])


class _Log:
    """Metrics as JSON lines and for TensorBoard, both cut back where a training resumes."""

    def __init__(self, folder: Path, samples_seen: int) -> None:
        self._lines = MetricsLog(folder / METRICS_FILE, "samples_seen", samples_seen)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=samples_seen + 1)

    def write(self, samples_seen: int, metrics: dict[str, float]) -> None:
        self._lines.write(samples_seen, metrics)
        for name, value in metrics.items():
            self._board.add_scalar(name, value, samples_seen)
        self._board.flush()
