"""`python -m benchmarks.speed.train_step`: training steps, and views alone, rivals beside them.

- VICReg on real images, against lightly's (`train_rivals.py`), as its documentation teaches and in
  our memory format.
- Squeeze and span with cached features, against the same step rendering its samples, with and
  without real images.
- Views alone, against four libraries (`view_rivals.py`).

A step is what `pipeline/train/loop.py` does between two log lines: `BatchStream.batch` (rows and
augmentation), forward, backward, SGD, on random images and features. torchvision comes with the
project; lightly and kornia do not, and are left out where they are missing:
`pip install lightly kornia`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    interleave,
    prepare,
    repeat,
    tabulate_ratios,
)
from benchmarks.random_shards import write_random_shards
from benchmarks.speed.render import SAMPLING, build_random_generator
from benchmarks.speed.train_ours import TrainingStep, changed
from benchmarks.speed.train_rivals import LightlyVicReg
from benchmarks.speed.view_rivals import RIVALS, compare_augmentation
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.teacher.training.step import build_architectures
from pipeline.train.data import TrainingShards
from pipeline.train.online import OnlineSamples

_SAMPLES = 2048
_PASS_PER_WORKER = 4  # batches that each of lightly's loader workers makes in a turn
_SHORT_TURNS = 5  # a turn of views alone is milliseconds, which a busy machine easily doubles


def compare_vicreg(
    config: TrainConfig, shards: TrainingShards, device: torch.device, repeats: int
) -> dict[str, float]:
    """Views/s of whole VICReg steps on the real images. lightly's loader has no workers beside a
    training on the CPU, which has all cores; as many as cores beside a GPU.
    """
    workers = 0 if device.type == "cpu" else len(os.sched_getaffinity(0))
    num_steps = max(1, _PASS_PER_WORKER * workers)
    ours = TrainingStep(vicreg_config(config), shards, device)
    tasks: dict[str, Callable[[], object]] = {OURS: partial(repeat, ours.run, num_steps)}
    if find_spec("lightly"):
        formats = {
            "lightly": torch.contiguous_format,
            "lightly, channels-last": torch.channels_last,
        }
        for name, memory_format in formats.items():
            tasks[name] = LightlyVicReg(
                ours.config,
                _images(shards, len(shards.real)),
                device,
                num_steps=num_steps,
                loader_workers=workers,
                memory_format=memory_format,
            ).run
    seconds = interleave(tasks, repeats, device)
    return {name: num_steps * ours.num_views / value for name, value in seconds.items()}


def vicreg_config(config: TrainConfig) -> TrainConfig:
    """VICReg on two views of every real image, with the objective of its authors, as lightly's."""
    method = {"name": "vicreg", "convention": "official"}
    return changed(config, method=method, images="real")


def compare_online(
    config: Config, shards: TrainingShards, images: str, device: torch.device, repeats: int
) -> dict[str, float]:
    """Views/s of squeeze-and-span steps on `images`, the samples cached and rendered."""
    train = changed(config.train, images=images)
    cached = TrainingStep(train, shards, device)
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    online = OnlineSamples(
        build_random_generator(arch, device),
        SAMPLING,
        list(zip(shards.features, shards.block_channels, strict=True)),
        config.generate.render_batch,
    )
    rendering = TrainingStep(
        changed(train, source="online"),
        TrainingShards(shards.real, online, shards.view_size),
        device,
    )
    tasks = {OURS: cached.run, "rendered online": rendering.run}
    seconds = interleave(tasks, repeats, device)
    return {name: cached.num_views / value for name, value in seconds.items()}


def _images(shards: TrainingShards, count: int) -> Tensor:
    """The first real images, uint8 [count, 3, R, R]."""
    return torch.from_numpy(shards.real.gather("image", np.arange(count)))


def benchmark(
    config: Config, num_samples: int, repeats: int, device: torch.device, folder: Path
) -> ResultTable:
    """Write `num_samples` random samples of each domain under `folder`, then time everything."""
    shards = write_random_shards(config, num_samples, folder)
    rates = {
        "VICReg step": compare_vicreg(config.train, shards, device, repeats),
        "squeeze and span, cached": compare_online(config, shards, "both", device, repeats),
        "squeeze, cached": compare_online(config, shards, "synthetic", device, repeats),
        "augmentation": compare_augmentation(
            _images(shards, min(256, num_samples)), config.train, device, _SHORT_TURNS * repeats
        ),
    }
    rows: list[tuple[TableCell, ...]] = []
    for what, found in rates.items():
        rows += against_rivals(what, "views/s", found)
    title = f"train_step, {config.real.resolution} px, batch {config.train.global_batch}"
    return tabulate_ratios(title, device, rows)


def main() -> None:
    """Run the command line."""
    arguments = common_parser("Training steps; lightly, torchvision, kornia beside.").parse_args()
    config, device = prepare(arguments)
    for package in {package for package, _ in RIVALS.values() if not find_spec(package)}:
        print(f"{package}: not installed, goes on without it; pip install {package}")
    if arguments.batch:
        train = changed(config.train, global_batch=arguments.batch)
        config = config.model_copy(update={"train": train})
    with tempfile.TemporaryDirectory() as folder:
        benchmark(config, _SAMPLES, arguments.repeats, device, Path(folder)).show()


if __name__ == "__main__":
    main()
