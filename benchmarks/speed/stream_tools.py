"""Our loader and its rivals, each as its documentation teaches: a folder -> batches of a pass.

Every rival stores image and features of a sample together, shuffles, decodes and batches in as many
loader workers as there are cores (one core: in the process itself), which stay from pass to pass.
All deliver torch tensors: images uint8 [batch, 3, R, R], features float16 [batch, F].
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import OURS
from benchmarks.speed.stream_samples import Kind, read_samples
from pipeline.config.train import TrainConfig
from pipeline.samples.order import Order
from pipeline.samples.stream import LoadedAhead, StepRows

StreamedBatch = tuple[Tensor, Tensor]
Passes = Callable[[int], Iterator[StreamedBatch]]
"""Index of a pass -> its batches."""
_CHUNK_BYTES = 1 << 26  # what both streaming tools take by default or advise


@dataclass(frozen=True)
class Tool:
    """A loader."""

    name: str
    package: str
    """Imported before any clock is started."""
    convert: Callable[[Kind, Path, Path], None] | None
    """Store the samples of a pool in another folder; None: the pool itself is read."""
    open: Callable[[Kind, Path, int, int], Passes]
    """Kind, folder, batch size and number of cores."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


def _open_ours(kind: Kind, folder: Path, batch: int, cores: int) -> Passes:
    """As `pipeline/train/data.py` reads the synthetic half of a batch."""
    pool = kind.open(folder)
    order = Order(pool.images.shard_sizes, 0, "synthetic", TrainConfig().shuffle_samples)
    step_rows = StepRows(order, batch)

    def load(step: int) -> StreamedBatch:
        rows = step_rows.rows(step)
        return _as_tensors(
            (pool.images.gather("image", rows), pool.gather_features(kind.feature_names, rows))
        )

    loaded, num_steps = LoadedAhead(load), len(pool) // batch
    return lambda index: map(loaded.get, range(index * num_steps, (index + 1) * num_steps))


def _convert_to_webdataset(kind: Kind, pool: Path, folder: Path) -> None:
    import webdataset

    samples, index = read_samples(kind, pool), 0
    while part := list(islice(samples, kind.samples_per_shard)):
        path = folder / f"shard-{index:06d}.tar"
        with path.open("wb") as file, webdataset.TarWriter(file) as writer:
            for sample in part:
                members = {f"image.{kind.codec}": sample.image, "features.npy": sample.features}
                writer.write({"__key__": f"{sample.index:09d}", **members})
        index += 1


def _open_webdataset(kind: Kind, folder: Path, batch: int, cores: int) -> Passes:
    """Shards and a buffer of 1000 samples are shuffled, which is not a global shuffle."""
    import webdataset

    warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the collector
    urls = sorted(map(str, folder.glob("*.tar")))
    dataset = (
        webdataset.WebDataset(urls, shardshuffle=len(urls))
        .shuffle(1000)
        .decode("torchrgb8")
        .to_tuple(f"image.{kind.codec}", "features.npy")
        .batched(batch, partial=False)
    )
    loader = webdataset.WebLoader(dataset, batch_size=None, **_workers(cores))
    return lambda _: map(_as_tensors, loader)


def _convert_to_mosaic(kind: Kind, pool: Path, folder: Path) -> None:
    streaming = import_module("streaming")

    size = kind.resolution
    image = f"ndarray:uint8:3,{size},{size}" if kind.codec == "npy" else "bytes"
    columns = {"image": image, "features": f"ndarray:float16:{sum(kind.widths)}"}
    with streaming.MDSWriter(out=str(folder), columns=columns, size_limit=_CHUNK_BYTES) as writer:
        for sample in read_samples(kind, pool):
            writer.write({"image": sample.image, "features": sample.features})


def _open_mosaic(kind: Kind, folder: Path, batch: int, cores: int) -> Passes:
    from torchvision.io import ImageReadMode, decode_jpeg

    streaming = import_module("streaming")

    class Samples(streaming.StreamingDataset):  # type: ignore[name-defined]
        def __getitem__(self, at: int) -> dict[str, Any]:
            sample: dict[str, Any] = super().__getitem__(at)
            if kind.codec == "jpg":
                content = torch.frombuffer(bytearray(sample["image"]), dtype=torch.uint8)
                sample["image"] = decode_jpeg(content, mode=ImageReadMode.RGB)
            return sample

    streaming.base.util.clean_stale_shared_memory()
    dataset = Samples(local=str(folder), shuffle=True, shuffle_algo="py1e", batch_size=batch)
    loader: Iterable[Any] = torch.utils.data.DataLoader(
        dataset, batch, drop_last=True, **_workers(cores)
    )
    return partial(_unpacked, loader)


def _convert_to_litdata(kind: Kind, pool: Path, folder: Path) -> None:
    import_module("litdata").optimize(
        fn=partial(_litdata_sample, kind),
        inputs=list(read_samples(kind, pool)),
        output_dir=str(folder),
        chunk_bytes=_CHUNK_BYTES,
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


def _litdata_sample(kind: Kind, sample: Any) -> dict[str, Any]:
    image = sample.image
    if kind.codec == "jpg":
        image = import_module("litdata").Jpeg(bytes=image)
    return {"image": image, "features": sample.features}


def _open_litdata(kind: Kind, folder: Path, batch: int, cores: int) -> Passes:
    litdata = import_module("litdata")
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=True)
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=batch, drop_last=True, **_workers(cores)
    )
    return partial(_unpacked, loader)


def _workers(cores: int) -> dict[str, Any]:
    return {"num_workers": 0 if cores == 1 else cores, "persistent_workers": cores > 1}


def _unpacked(loader: Iterable[dict[str, Any]], _: int) -> Iterator[StreamedBatch]:
    return (_as_tensors((row["image"], row["features"])) for row in loader)


def _as_tensors(batch: tuple[Any, Any]) -> StreamedBatch:
    images, features = (
        torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in batch
    )
    return images, features


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(OURS, "fsspec.implementations.local", None, _open_ours),
        Tool("webdataset", "webdataset", _convert_to_webdataset, _open_webdataset),
        Tool("mosaicml-streaming", "streaming", _convert_to_mosaic, _open_mosaic),
        Tool("litdata", "litdata", _convert_to_litdata, _open_litdata),
    )
}
os.environ.setdefault("WDS_SECURE", "1")
