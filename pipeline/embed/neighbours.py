"""Pictures of a user's -> the nearest of embedded images, by cosine, with FAISS.

Neighbours: `eval/knn.py` searches; `page.py` shows what is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.embed.embedded import Embedded, workers_of
from pipeline.embed.images import Images
from pipeline.embed.subject import Subject
from pipeline.engine.workers import Shared
from pipeline.measures.knn import nearest
from pipeline.real.decode import UnreadableError, decode
from pipeline.real.sources.location import in_words, read_file
from pipeline.student.backbone import Normalise
from pipeline.student.extraction import Frozen
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import bring_to_size
from shards.codecs import decode_image, encode_image
from shards.errors import UserError
from shards.schema import real_schema

_AT_ONCE = 64


@dataclass(frozen=True)
class Query:
    """A picture whose neighbours are asked for."""

    name: str
    pixels: np.ndarray
    """As images of the run are stored, uint8 [3, R, R]."""


@dataclass(frozen=True)
class Neighbour:
    """One of the nearest images."""

    rank: int
    """From 1."""
    cosine: float
    source: str
    label: str | None
    row: int
    """Among the embedded images."""


def read_queries(subject: Subject, names: Sequence[str]) -> list[Query]:
    """Files or URLs as stage `real` would store them.

    Raises:
        UserError: naming the first that is not there, or no image.
    """
    return [Query(name, _read(subject, name)) for name in names]


def _read(subject: Subject, name: str) -> np.ndarray:
    real = subject.config.real
    column = real_schema(real.resolution, real.image_codec, real.image_quality).column("image")
    try:
        with in_words("QUERY"):
            pixels = decode(read_file(name), real.resolution, real.background)
    except (UnreadableError, IsADirectoryError, PermissionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"QUERY: {name}: {reason}; name image files") from None
    if column.is_encoded:  # with what that loses
        return np.ascontiguousarray(decode_image(encode_image(pixels, column), column))
    return pixels


def choose_count(k: int | None, packed: Sequence[Images], default: int) -> int:
    """`k`, or as many as there are up to `default`.

    Raises:
        UserError: if there are fewer than `k` images.
    """
    count = sum(map(len, packed))
    if k is None:
        return min(default, count)
    if k > count:
        is_one = count == 1
        there = "there is 1 image" if is_one else f"there are {count:,} images"
        raise UserError(f"--k={k}: {there}; take --k={count} at most")
    return k


def find_neighbours(
    subject: Subject, embedded: Embedded, queries: Sequence[Query], k: int
) -> list[list[Neighbour]]:
    """The `k` nearest images of each query, nearest first."""
    workers = workers_of(subject)
    network = workers.share(subject.network)
    pixels = np.stack([query.pixels for query in queries])
    pieces = [(network, pixels, subject.side, vectors, k) for vectors in embedded.vectors]
    found = dict(workers.run(_search, pieces))
    starts = np.cumsum([0, *map(len, embedded.vectors)])
    cosines = np.hstack([found[place][0] for place in range(len(pieces))])
    rows = np.hstack([found[place][1] + starts[place] for place in range(len(pieces))])
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    cosines, rows = np.take_along_axis(cosines, order, 1), np.take_along_axis(rows, order, 1)
    wanted = set(rows.flatten().tolist())
    names = {row: name for row, name in enumerate(embedded.names()) if row in wanted}
    return [
        [
            Neighbour(rank, float(cosine), *names[row], row)
            for rank, (cosine, row) in enumerate(zip(*one, strict=True), 1)
        ]
        for one in zip(cosines.tolist(), rows.tolist(), strict=True)
    ]


def _search(
    network: Shared[Frozen],
    pixels: np.ndarray,
    side: int,
    keys: Vectors,
    k: int,
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """Runs in this process or in a worker."""
    return nearest(_embed(network.get(), pixels, side, device), keys, k)


@torch.inference_mode()
def _embed(network: Frozen, pixels: np.ndarray, side: int, device: torch.device) -> np.ndarray:
    """Embeddings of images uint8 [Q, 3, R, R] that are brought to `side` first."""
    assert network.backbone is not None
    backbone = network.backbone.eval().to(device)
    normalise = Normalise(network.pixel_mean, network.pixel_std).to(device)
    parts = [
        backbone(normalise(bring_to_size(part, side).to(device))).float().cpu().numpy()
        for part in torch.from_numpy(pixels).split(_AT_ONCE)
    ]
    return np.concatenate(parts)
