"""Representations kept by content: the same network never sees the same images twice.

They are kept in blocks, a file each under `runs/representations`, named by a digest of weights,
images and preprocessing, so nothing has to be declared out of date. A block is there whole or not
at all: it appears when it is complete, and one that is damaged counts as absent. `vectors.py` reads
several as one, memory-mapped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from shards.atomic import atomic_path

REPRESENTATIONS = "representations"
"""Folder of the blocks, under `paths.runs`."""
_VERSION = 2
_DIGEST_BYTES = hashlib.sha256().digest_size


def block_path(folder: Path, parts: Sequence[object]) -> Path:
    """Where a block is kept that depends on `parts`, as JSON, and on nothing else; blocks of the
    same first part, such as a network's, are in the same folder.
    """
    network, block = (
        hashlib.sha256(json.dumps([_VERSION, *chosen]).encode()).hexdigest()[:32]
        for chosen in (parts[:1], parts)
    )
    return folder / network / f"{block}.npy"


def write_block(path: Path, block: np.ndarray) -> None:
    """Keep `block` [n, D] at `path`, in numpy's format with the SHA-256 of its numbers behind it;
    not fsynced, since what a power failure leaves of it counts as absent.

    Raises:
        OSError: if it cannot be written.
    """
    block = np.ascontiguousarray(block)
    with atomic_path(path, is_durable=False) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array(file, block, allow_pickle=False)
        file.write(hashlib.sha256(block.data).digest())


def open_block(path: Path) -> np.ndarray | None:
    """What is at `path`, memory-mapped, no byte checked; None if that is no block."""
    try:
        block: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return block if block.ndim == 2 else None


def read_block(path: Path) -> np.ndarray | None:
    """The block at `path`, memory-mapped, every byte checked; None if none is there whole."""
    block = open_block(path)
    if block is None:
        return None
    try:
        with path.open("rb") as file:
            file.seek(-_DIGEST_BYTES, 2)
            digest = file.read()
    except OSError:
        return None
    return block if hashlib.sha256(block.data).digest() == digest else None


def weights_digest(backbone: nn.Module) -> str:
    """SHA-256 over the backbone's modules as they print themselves and its state dict, buffers
    included, 64 hex digits; wherever the weights are, and in training or not.
    """
    digest = hashlib.sha256(repr(backbone).encode())
    for name, tensor in backbone.state_dict().items():
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {list(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
