"""`python -m benchmarks.train_step`: one squeeze-and-span step and its parts.

The whole step is what `pipeline/train/loop.py` does between two log lines: `BatchStream.batch`
(waiting for rows that threads read ahead, and augmentation), forward, backward, SGD. Augmentation
meets a rival on the same images, torchvision's transforms; reading meets its own in `stream.py`.
Shards of random images and features are written to a temporary folder first.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch

from benchmarks.measure import (
    BenchmarkRun,
    Figure,
    common_parser,
    interleave,
    prepare,
    publish,
    synchronise,
)
from benchmarks.random_shards import feature_set, write_random_shards
from benchmarks.torchvision_views import compare_augmentation
from pipeline.config import Config
from pipeline.train.build import build_method
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.loop import learning_rate
from pipeline.train.method import MethodContext
from pipeline.train_config import TrainConfig
from shards.pool import PoolReader
from shards.reader import ShardReader

PARTS = ("batch", "forward", "backward", "optimiser")


@dataclass
class TrainingStep:
    """Networks, optimiser and batches at full size, set up as the training loop does."""

    config: TrainConfig
    shards: TrainingShards
    device: torch.device

    def __post_init__(self) -> None:
        context = MethodContext(self.shards.block_channels, _no_generator)
        self.method = build_method(self.config, context).to(self.device)
        self.stream = BatchStream(
            self.shards, self.config, type(self.method), self.device, rank=0, num_workers=1
        )
        self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            self.method.parameters(),
            lr=learning_rate(self.config, 0),
            momentum=self.config.momentum,
            weight_decay=self.config.weight_decay,
        )
        self.method.train()
        self.index = 0

    @property
    def num_views(self) -> int:
        """Views per step: one of each synthetic image, two of each real one."""
        return self.config.num_synthetic + 2 * self.config.num_real

    def run(self) -> None:
        """One step, waiting for the GPU only where training does."""
        output = self.method(self.stream.batch(self.index))
        if not output.loss.isfinite():
            raise ValueError(f"the loss is not finite at step {self.index}")
        self.optimizer.zero_grad(set_to_none=True)
        output.loss.backward()
        self.optimizer.step()
        self.index += 1

    def run_parts(self) -> dict[str, float]:
        """One step, waiting for the GPU after every part; returns the seconds of `PARTS`."""
        marks = [self._now()]
        batch = self.stream.batch(self.index)
        marks.append(self._now())
        loss = self.method(batch).loss
        marks.append(self._now())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        marks.append(self._now())
        self.optimizer.step()
        marks.append(self._now())
        self.index += 1
        return dict(zip(PARTS, np.diff(marks).tolist(), strict=True))

    def _now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()


def time_step(step: TrainingStep, repeats: int) -> tuple[float, dict[str, float]]:
    """Median seconds of a whole step, and each part's share of the time of a step in parts."""
    parts: list[dict[str, float]] = []
    seconds = interleave(
        {"whole": step.run, "parts": lambda: parts.append(step.run_parts())}, repeats, step.device
    )
    medians = {name: statistics.median(row[name] for row in parts[1:]) for name in PARTS}
    total = sum(medians.values())
    return seconds["whole"], {name: value / total for name, value in medians.items()}


def _no_generator() -> NoReturn:
    raise ValueError("this benchmark has no teacher")


def time_reading(shards: TrainingShards, config: TrainConfig, repeats: int) -> float:
    """Median seconds in which one thread gathers the rows of a step, as `BatchStream` does."""
    pool = shards.synthetic
    assert isinstance(pool, PoolReader)
    real, synthetic = (
        np.random.default_rng(0).integers(num_samples, size=num_rows)
        for num_samples, num_rows in (
            (len(shards.real), config.num_real),
            (len(pool), config.num_synthetic),
        )
    )

    def read() -> None:
        pool.images.gather("image", synthetic)
        pool.gather_features(shards.features, synthetic)
        shards.real.gather("image", real)

    return interleave({"read": read}, repeats, torch.device("cpu"))["read"]


def benchmark(
    config: Config, num_samples: int, repeats: int, device: torch.device, folder: Path
) -> BenchmarkRun:
    """Write `num_samples` random samples of each domain under `folder`, then time everything."""
    blocks = write_random_shards(config, num_samples, folder)
    shards = TrainingShards(
        real=ShardReader(folder / "real", remedy=""),
        synthetic=PoolReader(folder / "synthetic", [feature_set(blocks)], remedy=""),
        features=tuple(name for name, _ in blocks),
    )
    step = TrainingStep(config.train, shards, device)
    seconds, shares = time_step(step, repeats)
    rows = np.arange(min(256, num_samples))
    images = torch.from_numpy(shards.real.gather("image", rows))
    views = compare_augmentation(images, config.train, device, repeats)
    read = time_reading(shards, config.train, repeats)
    figures = [
        Figure("whole step", step.num_views / seconds, "views/s"),
        Figure("augmentation", views["ours"], "views/s", "torchvision v2 per image, CPU",
               views["torchvision"]),
        Figure("reading, in one thread", config.train.global_batch / read, "samples/s"),
    ]  # fmt: skip
    details = {
        "size": f"{config.real.resolution} px, {config.train.student.architecture} width "
        f"{config.train.student.width}, "
        f"embedding {config.train.student.embedding_dim}",
        "global batch": config.train.global_batch,
        "views per step": step.num_views,
        "milliseconds per step": 1000 * seconds,
        "shares of time": shares,
        "repeats": repeats,
    }
    return BenchmarkRun("train_step", device, figures, details)


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("A squeeze-and-span step and its parts, torchvision beside it.")
    parser.add_argument("--num-samples", type=int, default=2048, help="random samples per domain")
    arguments = parser.parse_args(argv)
    config, device = prepare(arguments)
    if arguments.batch:
        train = config.train.model_dump() | {"global_batch": arguments.batch}
        config = config.model_copy(update={"train": TrainConfig.model_validate(train)})
    with tempfile.TemporaryDirectory() as folder:
        run = benchmark(config, arguments.num_samples, arguments.repeats, device, Path(folder))
    publish(run, arguments.json, started)
    return run


if __name__ == "__main__":
    main()
