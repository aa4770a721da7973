"""`python -m benchmarks.speed.pack`: packing real images, beside what people write themselves.

Two kinds of images: `photos`, 500×375 JPEG to 128 px JPEG, and `small`, 32-px PNG kept at 32 px as
raw arrays; ours and the rivals leave the same samples: image, class, path. The rivals are a loop of
Pillow and `webdataset.ShardWriter` as the documentation of WebDataset teaches it (`pillow`; on two
cores two of them, each with half of the files), and img2dataset's resizer in front of the same
writer, left out where it is not installed (`pip install img2dataset`, best in another environment).
A turn is a fresh process pinned to its cores, imports and the start of Ray left out, files in the
page cache; ours lists the folder, decodes, writes shards, manifest and record. The tools take
turns; figures are medians.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    in_process,
    peak_mb,
    resident_mb,
    tabulate_ratios,
    take_turns,
)
from pipeline.config.root import Config

CORES = (1, 2)
_NUM_DIFFERENT = 250
_CLASSES = 10
_QUALITY = 90
_PER_SHARD = 1000
_FILES_ONLY = "img2dataset"  # makes no arrays
_ENOUGH = 4000  # images that are packed on Ray rather than in the process


@dataclass(frozen=True)
class Kind:
    """Images of one size, and what becomes of them."""

    name: str
    num_images: int
    height: int
    width: int
    suffix: str
    side: int
    codec: str

    def write(self, folder: Path) -> None:
        """Leave them in class folders; of very many some are the same."""
        different = [self._encode(seed) for seed in range(min(_NUM_DIFFERENT, self.num_images))]
        for number in range(self.num_images):
            place = folder / "train" / f"class-{number % _CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            content = different[number % len(different)]
            (place / f"{number:06d}.{self.suffix}").write_bytes(content)

    def _encode(self, seed: int) -> bytes:
        """A picture with the spectrum of photographs, amplitudes falling with the frequency."""
        generator = np.random.default_rng(seed)
        rows, columns = np.fft.fftfreq(self.height)[:, None], np.fft.rfftfreq(self.width)
        frequency = np.hypot(rows, columns)
        frequency[0, 0] = 1.0
        layers = []
        for _ in range(4):
            phases = generator.normal(size=(2, *frequency.shape))
            waves = (phases[0] + 1j * phases[1]) / frequency**1.2
            waves[0, 0] = 0
            layer = np.fft.irfft2(waves, s=(self.height, self.width))
            layers.append(layer / layer.std())
        pixels = np.stack([0.8 * layers[0] + 0.3 * layer for layer in layers[1:]], -1) * 45 + 120
        file = io.BytesIO()
        options = {"quality": _QUALITY} if self.suffix == "jpg" else {}
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(file, {"jpg": "JPEG", "png": "PNG"}[self.suffix], **options)
        return file.getvalue()


KINDS = (
    Kind("photos", 6000, 375, 500, "jpg", 128, "jpg"),
    Kind("small", 20_000, 32, 32, "png", 32, "npy"),
)


class Turn(NamedTuple):
    """What one process found, or the medians of several."""

    images_per_s: float
    grown_mb: float
    """Memory of the process, at most, above what it had before; workers are not in it."""


Pack = Callable[[Kind, Path, Path, int], float]
"""Packs the images of a folder into another on so many cores; returns seconds."""


def pack_ours(kind: Kind, images: Path, target: Path, cores: int) -> float:
    """By `make real`: in the process on one core, by workers on Ray on two."""
    from pipeline.cluster import connection
    from pipeline.real import stage

    def config_of(name: str, limit: int | None = None) -> Config:
        real = {
            "path": images,
            "limit": limit,
            "resolution": kind.side,
            "image_codec": kind.codec,
            "image_quality": _QUALITY,
            "samples_per_shard": _PER_SHARD,
        }
        paths = {"runs": target / "runs", "store": str(target / name)}
        ray = {"pack_workers": 0 if cores == 1 else cores}
        return Config.model_validate({"name": name, "real": real, "ray": ray, "paths": paths})

    if cores > 1:  # processes of workers, and what they import
        warm = config_of("warm", min(_ENOUGH, kind.num_images))
        connection.connect(warm.ray)
        stage.run(warm)
    config = config_of("store")
    since = time.perf_counter()
    stage.run(config)
    return time.perf_counter() - since


def pack_pillow(kind: Kind, images: Path, target: Path, cores: int) -> float:
    """By the loop of WebDataset's documentation."""
    return _by_loops(kind, images, target, cores, _resize_pillow)


def pack_img2dataset(kind: Kind, images: Path, target: Path, cores: int) -> float:
    """By img2dataset's resizer: central square, OpenCV's area filter."""
    return _by_loops(kind, images, target, cores, _resize_img2dataset)


def _by_loops(
    kind: Kind, images: Path, target: Path, cores: int, resize: Callable[..., Any]
) -> float:
    files = sorted((images / "train").rglob(f"*.{kind.suffix}"))
    since = time.perf_counter()
    parts = [files[part::cores] for part in range(cores)]
    if cores == 1:
        _write_part(kind, parts[0], target / "0", resize)
        return time.perf_counter() - since
    with ProcessPoolExecutor(cores, get_context("fork")) as workers:
        list(workers.map(len, [[]] * cores))
        since = time.perf_counter()
        jobs = [
            workers.submit(_write_part, kind, part, target / str(number), resize)
            for number, part in enumerate(parts)
        ]
        for job in jobs:
            job.result()
    return time.perf_counter() - since


def _write_part(
    kind: Kind, files: Sequence[Path], folder: Path, resize: Callable[..., Any]
) -> None:
    import webdataset

    folder.mkdir(parents=True)
    classes = sorted({file.parent.name for file in files})
    pattern = str(folder / "shard-%06d.tar")
    with webdataset.ShardWriter(pattern, maxcount=_PER_SHARD, verbose=0) as sink:
        for number, file in enumerate(files):
            sample = {
                "__key__": f"{number:09d}",
                "cls": classes.index(file.parent.name),
                "json": {"source": str(file)},
            }
            sample["jpg" if kind.codec == "jpg" else "npy"] = resize(kind, file)
            sink.write(sample)


def _resize_pillow(kind: Kind, file: Path) -> Any:
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return _finish(kind, square.resize((kind.side, kind.side), Image.Resampling.BICUBIC))


def _finish(kind: Kind, image: Image.Image) -> Any:
    if kind.codec == "npy":
        return np.asarray(image)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()


def _resize_img2dataset(kind: Kind, file: Path) -> Any:
    from img2dataset.resizer import Resizer  # type: ignore[import-not-found]

    resizer = Resizer(kind.side, "center_crop", False, encode_quality=_QUALITY)
    with file.open("rb") as stream:
        content, *_ = resizer(stream)
    return content


PACKERS: dict[str, Pack] = {
    OURS: pack_ours,
    "pillow": pack_pillow,
    _FILES_ONLY: pack_img2dataset,
}


def take_turn(packer: str, kind: Kind, images: Path, target: Path, cores: int) -> Turn:
    """Pack once, on so many cores; runs in a process of its own."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    torch.set_num_threads(1)
    import webdataset  # noqa: F401

    before_mb = resident_mb()
    seconds = PACKERS[packer](kind, images, target, cores)
    return Turn(kind.num_images / seconds, peak_mb() - before_mb)


def benchmark(
    kinds: Sequence[Kind],
    packers: Sequence[str],
    cores: Sequence[int],
    repeats: int,
    folder: Path,
) -> list[ResultTable]:
    """Write the images of every kind under `folder`, then let the packers take turns."""
    ratios: list[tuple[TableCell, ...]] = []
    memory: list[tuple[TableCell, ...]] = []
    for kind in kinds:
        images = folder / kind.name
        kind.write(images)
        ours: dict[int, float] = {}
        for num_cores in cores:
            fit = [name for name in packers if kind.codec == "jpg" or name != _FILES_ONLY]
            place = folder / "packed"
            turn = partial(_turn, kind=kind, images=images, target=place, cores=num_cores)
            medians = {name: Turn(*turns) for name, turns in take_turns(fit, repeats, turn).items()}
            what = f"{kind.name}, {num_cores} core{'s' * (num_cores > 1)}"
            rates = {name: turn.images_per_s for name, turn in medians.items()}
            ratios += against_rivals(what, "images/s", rates)
            ours[num_cores] = rates[OURS]
            memory += [(what, name, turn.grown_mb) for name, turn in medians.items()]
        if len(ours) > 1:
            gain = f"{ours[2] / ours[1]:.2f} x"
            ratios.append((f"{kind.name}, 2 cores", "", f"{OURS} on 1", ours[1], gain))
    return [
        tabulate_ratios("packing", torch.device("cpu"), ratios),
        ResultTable("memory", ("", "", "MB of memory grown"), memory),
    ]


def _turn(name: str, kind: Kind, images: Path, target: Path, cores: int) -> Turn:
    try:
        return in_process(take_turn, name, kind, images, target, cores)
    finally:
        shutil.rmtree(target, ignore_errors=True)


def _installed() -> Iterator[str]:
    for name in PACKERS:
        if name != _FILES_ONLY or find_spec(name):
            yield name
        else:
            print(f"{name}: not installed, goes on without it")


def main() -> None:
    """Run the command line."""
    parser = common_parser("Packing real images, and what people write themselves beside it.")
    parser.add_argument("--num-images", type=int, help="of each kind")
    parser.set_defaults(repeats=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    kinds = [
        Kind(**{**vars(kind), "num_images": arguments.num_images or kind.num_images})
        for kind in KINDS
    ]
    with tempfile.TemporaryDirectory() as folder:
        for table in benchmark(kinds, list(_installed()), CORES, arguments.repeats, Path(folder)):
            table.show()


if __name__ == "__main__":
    main()
