"""How fast stored images become representations on disk, beside the bare forward pass of the same
network over the same batches in memory.

    python -m benchmarks.speed.extract [--cifar] [--batch IMAGES] [--repeats N]
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import (
    OURS,
    ResultTable,
    against_rivals,
    common_parser,
    interleave,
    prepare,
    tabulate_ratios,
)
from benchmarks.random_shards import write_sets
from pipeline.config.root import Config
from pipeline.engine.workers import Workers
from pipeline.student.backbone import Normalise, build_backbone
from pipeline.student.extraction import Extractor, Frozen, split_rows
from pipeline.student.view_size import SizedImages
from shards.reader import ShardReader
from shards.schema import real_schema

_NUM_IMAGES = 4000
_RIVAL = "forward pass"


def benchmark(
    config: Config, device: torch.device, num_images: int, repeats: int, folder: Path
) -> ResultTable:
    """Images per second of both, with the student of `config`."""
    side = config.real.resolution
    write_sets(folder, {"real": real_schema(side)}, num_images, config.real.samples_per_shard)
    images = SizedImages(ShardReader(folder / "real", remedy=""), side)
    train = config.train
    network = Frozen(build_backbone(train.student, 0), train.pixel_mean, train.pixel_std)
    kept = folder / "kept"
    extractor = Extractor(kept, Workers(config.ray, device.type))

    def ours() -> None:
        shutil.rmtree(kept, ignore_errors=True)
        extractor.extract(network, images, None, "student")

    tasks = {OURS: ours, _RIVAL: _forward(network, images, device)}
    seconds = interleave(tasks, repeats, device)
    rates = {name: num_images / took_s for name, took_s in seconds.items()}
    what = f"{train.student.architecture}, width {train.student.width}, {side} px"
    return tabulate_ratios("extraction", device, against_rivals(what, "images/s", rates))


def _forward(network: Frozen, images: SizedImages, device: torch.device) -> Callable[[], None]:
    """Batches that are there, none of whose results is kept."""
    assert network.backbone is not None
    backbone = network.backbone.eval().to(device)
    normalise = Normalise(network.pixel_mean, network.pixel_std).to(device)
    rows = split_rows(images, np.arange(len(images)), device)
    batches = [images.gather(batch).to(device) for batch in rows]

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            backbone(normalise(batch))

    return run


if __name__ == "__main__":
    parser = common_parser(__doc__ or "")
    parser.add_argument("--images", type=int, default=_NUM_IMAGES, help="images of a turn")
    arguments = parser.parse_args()
    settings, where = prepare(arguments)
    with tempfile.TemporaryDirectory() as place:
        benchmark(settings, where, arguments.images, arguments.repeats, Path(place)).show()
