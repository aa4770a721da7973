"""The training loop: the same under Ray Train, `torchrun` and in one plain process.

The clock counts `samples_seen`. A checkpoint holds networks, optimiser and clock; everything else –
order, views, learning rate – is a function of the clock, so a run that was killed ends as one that
was not. It also lists which synthetic samples its steps have seen: a pool of the same recipe has
other bytes on another kind of machine, and a training may go on with those.
"""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from pipeline.config.hardware import CompileMode
from pipeline.config.train import TrainConfig
from pipeline.engine.collectives import num_workers, worker_rank
from pipeline.engine.launch import Report
from pipeline.engine.metrics import MetricsLog
from pipeline.engine.state import load_state, save_state
from pipeline.terminal.interrupt import Interrupted, deferred_interrupts
from pipeline.terminal.progress import console
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.method import Method
from pipeline.train.monitor.measure import start_monitor
from pipeline.train.monitor.patience import Patience
from pipeline.train.monitor.schedule import make_schedule
from pipeline.train.monitor.shards import MonitoredReaders
from pipeline.train.step import StudentTrainer
from shards.atomic import write_atomic
from shards.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"
STUDENT_FILE = "student.safetensors"
_LOG_STEPS = (10, 100)
"""Least and most steps between two lines of metrics; on a GPU the latter is the least."""
_SPECTRUM_LINES = 20
"""Lines of metrics from one with effective ranks to the next on a GPU, where the spectrum of a
small matrix takes as long as some steps.
"""


def log_interval(num_steps: int, device: torch.device) -> int:
    """Steps between two lines of metrics: some thousand lines of a long training, and on a GPU no
    more than it can afford to be waited for.
    """
    least, most = _LOG_STEPS
    if device.type != "cpu":
        return max(most, num_steps // 1000)
    return min(max(least, num_steps // 1000), most)


def train(
    config: TrainConfig,
    shards: TrainingShards,
    method: Method,
    folder: Path,
    device: torch.device,
    fingerprint: str,
    report: Report,
    compile_networks: CompileMode = "off",
    monitored: MonitoredReaders | None = None,
) -> None:
    """Train to the end, or for as long as `train.patience` has it, going on from `folder`'s
    checkpoint, and leave the student there.

    Args:
        method: fresh from `build_method`.
        folder: gets checkpoint, metrics and `student.safetensors`; shared by all workers, written
            by rank 0.
        fingerprint: a checkpoint with another one is refused.
        report: called with (samples_seen, metrics) after each logged step, on every rank; the step
            is saved where it says so.
        monitored: images by which the student is looked at meanwhile, None for none.

    Raises:
        Interrupted: by a signal, after the step at hand was saved.
        UserError: if the loss is not finite; nothing is saved of that step.
    """
    rank = worker_rank()
    stream = BatchStream(
        shards,
        config,
        type(method),
        device,
        rank=rank,
        num_workers=num_workers(),
        compile_mode=compile_networks,
    )
    trainer = StudentTrainer(config, method, device, compile_networks)
    method = trainer.method
    state = load_state(folder / CHECKPOINT_FILE, device, fingerprint)
    samples_seen, synthetic = 0, shards.synthetic_origins
    if state is not None:
        samples_seen = int(state["samples_seen"])
        synthetic = list(dict.fromkeys([*state["synthetic"], *synthetic]))
        trainer.load_state_dict(state)
    epoch_steps = config.steps_per_epoch(len(shards.real))
    num_steps = config.epochs * epoch_steps
    interval = log_interval(num_steps, device)
    spectrum_interval = interval * (1 if device.type == "cpu" else _SPECTRUM_LINES)
    schedule = make_schedule(config, type(method), num_steps, shards.view_size)
    monitor = start_monitor(config, schedule, monitored, shards.view_size, device)
    patience = Patience(config.patience, device, (state or {}).get("patience"))
    log = _Log(folder, samples_seen) if rank == 0 else None
    saved_at = time.monotonic()
    waiting = _Waiting(stream)
    if state is not None and rank == 0:
        is_same = synthetic == state["synthetic"]
        note = "" if is_same else ", on other bytes of the same synthetic samples than before"
        console.print(f"train     resumed at {samples_seen:,} samples{note}", soft_wrap=True)
    with deferred_interrupts() as is_interrupted, closing(stream):
        for step in range(samples_seen // config.global_batch, num_steps):
            if patience.is_over:
                break
            output = trainer.losses(stream.batch(step), step)
            rate = trainer.update(output, step, step / epoch_steps)
            samples_seen = (step + 1) * config.global_batch
            is_last = step + 1 == num_steps
            is_asked = False
            if (step + 1) % interval == 0 or is_last:
                epoch = (step + 1) / epoch_steps
                losses = output.metrics(is_last or (step + 1) % spectrum_interval == 0)
                metrics = {**losses, "learning_rate": rate, "epoch": epoch}
                if monitor is not None and monitor.is_due(step + 1, interval):
                    seen = monitor.look(method.backbone)
                    patience.look(seen)
                    metrics |= seen
                if log is not None:
                    log.write(samples_seen, metrics)
                is_asked = report(samples_seen, {**metrics, "loader_wait_share": waiting.share()})
            is_due = is_asked or time.monotonic() - saved_at > config.checkpoint_interval_s
            if rank == 0 and (is_last or is_due or patience.is_over or is_interrupted()):
                shards.check_unchanged()
                state = {"fingerprint": fingerprint, "samples_seen": samples_seen}
                state |= {"synthetic": synthetic, "patience": patience.state_dict()}
                state |= trainer.state_dict()
                save_state(folder / CHECKPOINT_FILE, state)
                saved_at = time.monotonic()
            if is_interrupted():
                raise Interrupted
    if not all(parameter.isfinite().all() for parameter in method.parameters()):
        raise UserError("train: the student's weights are not finite; lower train.learning_rate")
    if rank == 0:
        export_student(method.backbone, config, folder)


def export_student(backbone: nn.Module, config: TrainConfig, folder: Path) -> None:
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
        name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()
    }
    write_atomic(folder / STUDENT_FILE, save(tensors, metadata))


class _Waiting:
    """Which share of the time since the last look went by waiting for rows."""

    def __init__(self, stream: BatchStream) -> None:
        self._stream = stream
        self._looked = (time.perf_counter(), stream.waited_s)

    def share(self) -> float:
        """In [0, 1]."""
        now = (time.perf_counter(), self._stream.waited_s)
        passed, waited = (new - old for new, old in zip(now, self._looked, strict=True))
        self._looked = now
        return waited / passed if passed else 0.0


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
