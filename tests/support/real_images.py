"""Small images in the folders, zips, tars and Parquet files in which people have them, and what
becomes of them: read through request, rows and readers, without packing.

An image of `tile(n)` has one colour, by which `number_of` knows it again at any size.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config.root import Config
from pipeline.real.decode import UnreadableError, decode, to_array
from pipeline.real.listing import Listing
from pipeline.real.request import SPLITS, make_request, select, split_read
from pipeline.real.rows import rows_of
from pipeline.real.sources.source import Row
from shards.errors import UserError

INPUTS = Path(__file__).resolve().parents[1] / "real" / "inputs"
SIDE = 8
CLASSES = ("circle", "square", "triangle")


def real_config(store: Path, **fields: Any) -> Config:
    """A run whose store and runs are in `store`; images of 8 px, packed in this process."""
    return Config.model_validate(
        {
            "name": "tiny",
            "paths": {"store": str(store / "store"), "runs": str(store / "runs")},
            "ray": {"pack_workers": 0},
            "real": {"resolution": SIDE, **fields},
        }
    )


@dataclass(frozen=True)
class ReadSplit:
    """What one split comes to."""

    images: list[np.ndarray]
    labels: list[int]
    sources: list[str]
    unreadable: dict[str, str]
    """Source -> reason."""
    num_available: int | None = None

    @property
    def numbers(self) -> list[int]:
        """Of the tiles."""
        return [number_of(image) for image in self.images]


@dataclass(frozen=True)
class ReadSet:
    """Both splits, and the names of their classes."""

    train: ReadSplit
    test: ReadSplit
    class_names: tuple[str, ...]
    listings: dict[str, Listing]

    def names(self, split: str) -> list[str | None]:
        """Name of the class of each image of a split."""
        labels = getattr(self, split).labels
        return [self.class_names[label] if label >= 0 else None for label in labels]


def read_set(store: Path, **fields: Any) -> ReadSet:
    """What the `real` section `fields` comes to."""
    config = real_config(store, **fields)
    request = make_request(config)
    selections, names = select(config.real, request, config.store)
    splits = {}
    for split in SPLITS:
        if split not in selections:
            splits[split] = ReadSplit([], [], [], {})
            continue
        source = request.sources[split_read(config.real, split)]
        rows = [
            row for table in rows_of(selections[split], config.store) for row in table.to_pylist()
        ]
        lost = {row["source"].decode(): row["problem"] for row in rows if row["problem"]}
        whole = [row for row in rows if not row["problem"]]
        wanted = [Row(row["source"], row["file"], row["position"], row["size"]) for row in whole]
        images, kept = [], []
        for row, content in zip(whole, source.open().read(wanted), strict=True):
            try:
                images.append(_image(content, config.real.resolution, config.real.background))
                kept.append(row)
            except UnreadableError as error:
                lost[row["source"].decode()] = str(error)
        labels = [row["label"] for row in kept]
        sources = [row["source"].decode() for row in kept]
        available = selections[split].num_available
        splits[split] = ReadSplit(images, labels, sources, lost, available)
    return ReadSet(splits["train"], splits["test"], names, request.listings)


def _image(content: Any, side: int, background: tuple[int, int, int]) -> np.ndarray:
    if isinstance(content, Exception):
        raise content
    if isinstance(content, np.ndarray):
        return to_array(Image.fromarray(content), side, background)
    return decode(content, side, background)


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The file that Pillow makes of an image."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tile(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    """A PNG of one colour, another one for each number up to 65,535."""
    return encode(Image.new("RGB", size, (number % 256, number // 256, 77)))


def number_of(image: np.ndarray) -> int:
    """Which tile this is, which nothing else than a tile is."""
    assert (image == image[:, :1, :1]).all()
    red, green, blue = image[:, 0, 0].tolist()
    assert blue == 77
    return int(red + 256 * green)


def write(path: Path, content: bytes | int) -> Path:
    """A file, and the folders that it lies in; a number means its tile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tile(content) if isinstance(content, int) else content)
    return path


def write_folder(folder: Path, files: Mapping[str, bytes | int]) -> Path:
    """Files by their paths in a folder; a number means its tile."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write(folder / name, content)
    return folder


def write_zip(
    path: Path,
    members: Mapping[str, bytes | int],
    labels: object = ...,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """A zip, with `labels` in a dataset.json where there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, tile(content) if isinstance(content, int) else content)
        if labels is not ...:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def protect(path: Path) -> None:
    """Let a zip say of all members that a password protects them."""
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 4)
    path.write_bytes(content)


def write_tar(path: Path, members: Iterable[tuple[str, bytes | int]]) -> Path:
    """A tar of members in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            content = tile(content) if isinstance(content, int) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_parquet(
    path: Path,
    images: Sequence[bytes | int | None],
    labels: Sequence[object] | None = None,
    *,
    names: Sequence[str] | None = None,
    columns: tuple[str, str] = ("image", "label"),
    is_struct: bool = True,
    has_metadata: bool = True,
    rows_per_group: int = 1000,
) -> Path:
    """A file as Hugging Face's `datasets` writes them, or `is_struct` and `has_metadata` not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [tile(image) if isinstance(image, int) else image for image in images]
    image_column: Any = contents
    kind = pa.binary()
    if is_struct:
        image_column = [None if c is None else {"bytes": c, "path": None} for c in contents]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    arrays = {columns[0]: pa.array(image_column, kind)}
    features: dict[str, Any] = {columns[0]: {"_type": "Image"}}
    if labels is not None:
        arrays[columns[1]] = pa.array(labels)
        features[columns[1]] = (
            {"dtype": "int64", "_type": "Value"}
            if names is None
            else {"names": list(names), "_type": "ClassLabel"}
        )
    table = pa.table(arrays)
    if has_metadata:
        said = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": said})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def expected_set() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of `INPUTS/sets`, by number."""
    with np.load(INPUTS / "sets" / "expected.npz") as expected:
        assert tuple(expected["class_names"]) == CLASSES
        return expected["images"], expected["labels"]


def distance(image: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(image.astype(int) - expected.astype(int)).mean())


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Waves of four pixels and longer."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / 200
    pixels = np.zeros((height, width, 3))
    for number in range(24):
        across, down, phase = generator.uniform(-1, 1, 3)
        wave = np.sin(2 * np.pi * (12 * across * x + 12 * down * y + phase))
        pixels[..., number % 3] += wave
    return (128 + 25 * pixels).clip(0, 255).astype(np.uint8)


def tar(path: Path, *numbers: int) -> Path:
    members: list[tuple[str, bytes | int]] = []
    for number in numbers:
        members += [(f"{number}.png", number), (f"{number}.cls", b"%d" % (number % 3))]
    return write_tar(path, members)


def zipped(path: Path, *numbers: int) -> Path:
    return write_zip(path, {f"{'abc'[number % 3]}/{number}.png": number for number in numbers})


def parquet(path: Path, *numbers: int) -> Path:
    return write_parquet(path, numbers, [number % 3 for number in numbers], names="abc")


MAKERS: dict[str, Callable[..., Path]] = {"tar": tar, "zip": zipped, "parquet": parquet}


def refuse(tmp_path: Path, **fields: Any) -> str:
    with pytest.raises(UserError) as raised:
        read_set(tmp_path / "out", **fields)
    message = str(raised.value)
    assert "\n" not in message
    return message


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
