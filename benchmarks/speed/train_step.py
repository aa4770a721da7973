"""`python -m benchmarks.speed.train_step`: training steps and their parts, rivals beside them.

- VICReg on real images, against lightly's (`train_rivals.py`), as its documentation teaches and in
  our memory format.
- Squeeze and span with cached features, against the same step rendering its samples, with and
  without real images.
- Views alone, against four libraries (`view_rivals.py`).

A step is what `pipeline/train/loop.py` does between two log lines: `BatchStream.batch` (rows and
augmentation), forward, backward, SGD. Random images and features are written to a temporary folder
first; reading meets its own rivals in `stream.py`.

torchvision comes with the project; lightly and kornia do not, and are left out where they are
missing: `pip install lightly kornia`.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import BenchmarkRun, Figure, common_parser, interleave, prepare, publish
from benchmarks.random_shards import Blocks, write_random_shards
from benchmarks.speed.step_rows import StepReader, open_random_shards
from benchmarks.speed.train_ours import PARTS, TrainingStep, changed, render_online, vicreg_config
from benchmarks.speed.train_rivals import LightlyVicReg, has_lightly
from benchmarks.speed.view_rivals import RIVALS, compare_augmentation
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.train.data import TrainingShards

_PASS_PER_WORKER = 4  # batches that each of lightly's loader workers makes in a turn
_SHORT_TURNS = 5  # a turn of views alone is milliseconds, which a busy machine easily doubles


def compare_vicreg(
    config: TrainConfig,
    shards: TrainingShards,
    device: torch.device,
    loader_workers: int,
    repeats: int,
) -> list[Figure]:
    """Views/s of whole VICReg steps on the real images."""
    num_steps = max(1, _PASS_PER_WORKER * loader_workers)
    ours = TrainingStep(vicreg_config(config), shards, device)

    def run() -> None:
        for _ in range(num_steps):
            ours.run()

    tasks = {"ours": run}
    if has_lightly():
        images = _images(shards, len(shards.real))
        for name, channels_last in (("lightly", False), ("lightly, channels-last", True)):
            tasks[name] = LightlyVicReg(
                ours.config,
                images,
                device,
                num_steps=num_steps,
                loader_workers=loader_workers,
                channels_last=channels_last,
            ).run
    seconds = interleave(tasks, repeats, device)
    rates = {name: num_steps * ours.num_views / value for name, value in seconds.items()}
    return _against("VICReg step", rates)


def compare_online(
    config: Config, shards: TrainingShards, blocks: Blocks, device: torch.device, repeats: int
) -> tuple[list[Figure], dict[str, float]]:
    """Views/s of squeeze-and-span steps; and each part's share of the time of the cached one in
    parts.
    """
    online = TrainingShards(shards.real, render_online(config, blocks, device))
    figures, parts = [], []
    for title, images in (("squeeze and span, cached", "both"), ("squeeze, cached", "synthetic")):
        train = changed(config.train, images=images)
        cached = TrainingStep(train, shards, device)
        rendering = TrainingStep(changed(train, source="online"), online, device)
        tasks = {"ours": cached.run, "rendered online": rendering.run}
        seconds = interleave(tasks, repeats, device)
        rates = {name: cached.num_views / value for name, value in seconds.items()}
        figures += _against(title, rates)
        if images == "both":
            parts = [cached.run_parts() for _ in range(repeats)]
    medians = {name: statistics.median(row[name] for row in parts) for name in PARTS}
    total = sum(medians.values())
    return figures, {name: value / total for name, value in medians.items()}


def _against(title: str, rates: dict[str, float]) -> list[Figure]:
    """Our rate beside every other one."""
    rivals = [(name, rate) for name, rate in rates.items() if name != "ours"]
    if not rivals:
        return [Figure(title, rates["ours"], "views/s")]
    return [Figure(title, rates["ours"], "views/s", *rival) for rival in rivals]


def _images(shards: TrainingShards, count: int) -> Tensor:
    """The first real images, uint8 [count, 3, R, R]."""
    return torch.from_numpy(shards.real.gather("image", np.arange(count)))


def time_reading(shards: TrainingShards, config: TrainConfig, repeats: int) -> float:
    """Median seconds in which one thread gathers the rows of a step, as `BatchStream` does."""
    read = StepReader(shards, config).read
    return interleave({"read": read}, repeats, torch.device("cpu"))["read"]


def benchmark(
    config: Config,
    num_samples: int,
    repeats: int,
    device: torch.device,
    folder: Path,
    loader_workers: int = 0,
) -> BenchmarkRun:
    """Write `num_samples` random samples of each domain under `folder`, then time everything."""
    blocks = write_random_shards(config, num_samples, folder)
    shards = open_random_shards(folder, blocks)
    vicreg = compare_vicreg(config.train, shards, device, loader_workers, repeats)
    distilling, shares = compare_online(config, shards, blocks, device, repeats)
    images = _images(shards, min(256, num_samples))
    views = compare_augmentation(images, config.train, device, _SHORT_TURNS * repeats)
    read = time_reading(shards, config.train, repeats)
    figures = [
        *vicreg,
        *distilling,
        *_against("augmentation", views),
        Figure("reading, in one thread", config.train.global_batch / read, "samples/s"),
    ]
    details = {
        "size": f"{config.real.resolution} px, {config.train.student.architecture} width "
        f"{config.train.student.width}, embedding {config.train.student.embedding_dim}, "
        f"generator's channel base {config.teacher.channel_base}",
        "global batch": config.train.global_batch,
        "lightly's loader workers": loader_workers,
        "shares of time of squeeze and span": shares,
        "repeats": repeats,
    }
    return BenchmarkRun("train_step", device, figures, details)


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("Training steps and their parts, lightly, torchvision, kornia beside.")
    parser.add_argument("--num-samples", type=int, default=2048, help="random samples per domain")
    parser.add_argument(
        "--loader-workers",
        type=int,
        help="processes of lightly's loader (default: none beside a training on the CPU, which has "
        "all cores; as many as cores beside a GPU)",
    )
    arguments = parser.parse_args(argv)
    config, device = prepare(arguments)
    for package in {rival.package for rival in RIVALS if not rival.is_installed}:
        print(f"{package}: not installed, goes on without it; pip install {package}")
    if arguments.batch:
        train = changed(config.train, global_batch=arguments.batch)
        config = config.model_copy(update={"train": train})
    workers = arguments.loader_workers
    if workers is None:
        workers = 0 if device.type == "cpu" else len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        run = benchmark(
            config, arguments.num_samples, arguments.repeats, device, Path(folder), workers
        )
    publish(run, arguments.json, started)
    return run


if __name__ == "__main__":
    main()
