"""Stored images -> representations in blocks on disk, by a frozen network, on workers.

The images are taken in pieces, a few shards or a part of one, each a block that is kept by content
(`representations.py`): what is there is not computed again, whoever asks, and an extraction that
was killed goes on behind its last block. Neighbour: `vectors.py` reads the blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.engine.upload import Groups, prepare_upload
from pipeline.engine.workers import Shared, Workers
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead
from pipeline.student.backbone import Normalise
from pipeline.student.representations import (
    block_path,
    open_block,
    read_block,
    weights_digest,
    write_block,
)
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages
from pipeline.terminal.progress import progress_bar
from shards.atomic import remove_stale
from shards.errors import UserError
from shards.verify import verify_shards

_PIECE_ROWS = (1024, 4096)
"""Least rows of a block, where there are more, and most."""
_CHECKED_AT_ONCE = 16
"""Blocks."""
_BATCH = 500
_BATCH_PIXELS = {"cpu": 500 * 32 * 32, "cuda": 500 * 128 * 128}
"""Pixels of a batch at the most, which bounds the memory of activations."""
_CALIBRATED_ON = 50_000


@dataclass(frozen=True)
class Frozen:
    """A network in evaluation mode: normalised images [B, 3, V, V] -> representations [B, D]."""

    backbone: nn.Module | None
    """None: the pixels themselves are the representation, uint8 [B, 3 V V]."""
    pixel_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of images in [0, 1]."""
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def digest(self) -> str:
        """Of all that shapes a representation but the image and the kind of device."""
        if self.backbone is None:
            return "pixels"
        return f"{weights_digest(self.backbone)} {self.pixel_mean} {self.pixel_std}"


@dataclass(frozen=True)
class Piece:
    """Images that become one block."""

    rows: np.ndarray
    """[n] int64, in the reader's count."""
    shards: tuple[int, ...]
    """That have them."""
    content: str
    """Digest of the shards and of which of their samples are taken."""


@dataclass(frozen=True)
class Extractor:
    """Makes representations, each once; they are kept in `folder`."""

    folder: Path
    workers: Workers

    def extract(
        self, network: Frozen, images: SizedImages, rows: np.ndarray | None, title: str
    ) -> Vectors:
        """Representations of the images at `rows` [N], or of all, without augmentation: float32
        [N, D], of pixels uint8. `title` is for the progress bar.

        Raises:
            UserError: for a damaged shard, an image that cannot be decoded, or a `folder` that
                workers do not see.
            OSError: if `folder` cannot be written.
        """
        rows = np.arange(len(images)) if rows is None else np.asarray(rows, np.int64)
        order = np.argsort(rows, kind="stable")
        pieces = list(_cut(images, rows[order]))
        paths = self._paths(network, images, pieces)
        blocks = self._read(paths)
        todo = [place for place, block in enumerate(blocks) if block is None]
        if todo:
            self._compute(network, images, [(pieces[n], paths[n]) for n in todo], title)
        for place, block in zip(todo, self._read([paths[n] for n in todo]), strict=True):
            blocks[place] = block
        found = [block for block in blocks if block is not None]
        if len(found) < len(blocks):
            raise self._unseen()
        is_sorted = (order == np.arange(len(order))).all()
        return Vectors(found, None if is_sorted else np.argsort(order))

    def _paths(self, network: Frozen, images: SizedImages, pieces: list[Piece]) -> list[Path]:
        kind = "cpu" if network.backbone is None else self.workers.kind
        made_by = f"{network.digest} at {images.side} px on {kind}"
        folder = self.folder.absolute()  # workers have another working directory
        return [block_path(folder, (made_by, piece.content)) for piece in pieces]

    def _unseen(self) -> Exception:
        folder = self.folder.absolute()
        if self.workers.are_here:
            return OSError(f"{folder}: blocks that were just written there are not whole")
        return UserError(
            f"paths.runs: what workers have written to {folder} is not there; name a folder that "
            "all nodes see, paths.runs=/shared/runs"
        )

    def _read(self, paths: list[Path]) -> list[np.ndarray | None]:
        """Blocks, None for those that are not there whole; many are checked by workers."""
        size = _CHECKED_AT_ONCE
        groups = [paths[start : start + size] for start in range(0, len(paths), size)]
        if self.workers.are_here or len(groups) < 2:
            return [read_block(path) for path in paths]
        found = dict(self.workers.run(_are_whole, [(group,) for group in groups]))
        whole = [is_whole for place in range(len(groups)) for is_whole in found[place]]
        return [open_block(path) if ok else None for path, ok in zip(paths, whole, strict=True)]

    def _compute(
        self, network: Frozen, images: SizedImages, todo: list[tuple[Piece, Path]], title: str
    ) -> None:
        total = sum(len(piece.rows) for piece, _ in todo)
        for folder in {path.parent for _, path in todo}:
            remove_stale(folder)
        shared = self.workers.share((network, images))
        with progress_bar("images") as bar:
            task = bar.add_task(title, total=total, note="")
            if self.workers.are_here:
                work: list[tuple[object, ...]] = [
                    (shared, todo, lambda count: bar.advance(task, count))
                ]
            else:
                work = [(shared, [one], _say_nothing) for one in todo]
            for position, _ in self.workers.run(_make_blocks, work):
                if not self.workers.are_here:
                    bar.advance(task, len(todo[position][0].rows))


def _are_whole(paths: Sequence[Path], device: torch.device) -> list[bool]:
    """Runs in a worker."""
    return [read_block(path) is not None for path in paths]


def _say_nothing(count: int) -> None:
    pass


def _cut(images: SizedImages, rows: np.ndarray) -> Iterator[Piece]:
    """Pieces of sorted `rows`: whole shards up to a number of rows, and parts of larger ones."""
    least, most = _PIECE_ROWS
    reader = images.reader
    starts = np.cumsum([0, *reader.shard_sizes])
    bounds = np.searchsorted(rows, starts)
    first = 0
    while first < len(reader.shards):
        last = first + 1
        while last < len(reader.shards) and bounds[last] - bounds[first] < least:
            last += 1
        chosen = rows[bounds[first] : bounds[last]]
        for start in range(0, len(chosen), most):
            yield _piece(images, chosen[start : start + most], starts)
        first = last


def _piece(images: SizedImages, rows: np.ndarray, starts: np.ndarray) -> Piece:
    shard_of = np.searchsorted(starts, rows, side="right") - 1
    shards = tuple(np.unique(shard_of).tolist())
    digest = hashlib.sha256()
    for shard in shards:
        local = rows[shard_of == shard] - starts[shard]
        digest.update(images.reader.shards[shard].sha256.encode() + local.tobytes())
    return Piece(rows, shards, digest.hexdigest())


def _make_blocks(
    shared: Shared[tuple[Frozen, SizedImages]],
    todo: Sequence[tuple[Piece, Path]],
    report: Callable[[int], None],
    device: torch.device,
) -> None:
    """Runs in this process or in a worker: each block is written as soon as it is made."""
    network, images = shared.get()
    parts: list[np.ndarray] = []
    batches = [
        (place, batch)
        for place, (piece, _) in enumerate(todo)
        for batch in split_rows(images, piece.rows, device)
    ]
    for (place, batch), part in zip(
        batches, represent(network, images, [batch for _, batch in batches], device), strict=True
    ):
        piece, path = todo[place]
        if not parts:
            verify_shards(images.reader, piece.shards)
        parts.append(part)
        report(len(batch))
        if sum(map(len, parts)) == len(piece.rows):
            write_block(path, np.concatenate(parts))
            parts.clear()
            images.reader.let_go(piece.shards)


def split_rows(images: SizedImages, rows: np.ndarray, device: torch.device) -> list[np.ndarray]:
    """Batches of `rows` that a network takes at once."""
    size = max(1, min(_BATCH, _BATCH_PIXELS[device.type] // images.side**2))
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def represent(
    network: Frozen, images: SizedImages, batches: Sequence[np.ndarray], device: torch.device
) -> Iterator[np.ndarray]:
    """What the network makes of each batch of rows: float32 [B, D], of pixels uint8. The next ones
    are loaded while a GPU computes.
    """
    if network.backbone is None:
        for batch in batches:
            yield images.gather(batch).flatten(1).numpy()
        return
    backbone = network.backbone.eval().to(device)
    normalise = Normalise(network.pixel_mean, network.pixel_std).to(device)
    with closing(_load_ahead(images, batches, device)) as loaded:
        for step in range(len(batches)):
            with torch.inference_mode():
                ((pixels,),) = loaded.get(step)()
                yield backbone(normalise(pixels)).float().cpu().numpy()


def _load_ahead(
    images: SizedImages, batches: Sequence[np.ndarray], device: torch.device
) -> LoadedAhead[Callable[[], Groups]]:
    def load(step: int) -> Callable[[], Groups]:
        found: list[list[Tensor]] = [[images.gather(batches[min(step, len(batches) - 1)])]]
        return prepare_upload(found, device)

    return LoadedAhead(load, 0 if device.type == "cpu" else LOADED_AHEAD)


@torch.no_grad()
def calibrate_batch_norm(
    network: Frozen, images: SizedImages, device: torch.device
) -> dict[str, Tensor]:
    """State of an untrained network given the batch statistics of the images, or of 50,000 of more,
    so that it is judged at its best; of one without batch normalisation as it is. The network
    itself is left alone.
    """
    assert network.backbone is not None
    # a copy: blocks are kept by what a backbone prints, which says how its averages move
    backbone = deepcopy(network.backbone).eval().to(device)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = None  # average over the passes
    if norms:
        count = min(len(images), _CALIBRATED_ON)
        rows = np.linspace(0, len(images) - 1, count).round().astype(np.int64)
        batches = [batch for batch in split_rows(images, rows, device) if len(batch) > 1]
        normalise = Normalise(network.pixel_mean, network.pixel_std).to(device)
        with closing(_load_ahead(images, batches, device)) as loaded:
            for step in range(len(batches)):
                ((pixels,),) = loaded.get(step)()
                backbone(normalise(pixels))
    return {name: value.cpu() for name, value in backbone.state_dict().items()}
