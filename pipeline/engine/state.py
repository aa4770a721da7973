"""Resumable training states: one file of tensors and numbers, whole or refused.

Neighbours: both trainers. The file is torch's own format followed by the SHA-256 of it, because
torch does not notice a flipped bit; it is read without executing anything.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from shards.atomic import write_atomic
from shards.errors import UserError

_DIGEST_BYTES = 32


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Replace `path`; through memory, so that a full disk is an ordinary OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_atomic(path, content + hashlib.sha256(content).digest())


def load_state(
    path: Path, device: torch.device, fingerprint: str | None = None
) -> dict[str, Any] | None:
    """The state in `path`, None if there is none yet.

    Raises:
        UserError: if the file is damaged or belongs to a training with another `fingerprint` than
            the one given.
    """
    if not path.exists():
        return None
    content = path.read_bytes()
    payload, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise UserError(f"{path}: damaged; delete {path.parent} to train again")
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    if fingerprint is not None and state["fingerprint"] != fingerprint:
        raise UserError(
            f"{path}: belongs to a training with other settings; take another name=… or delete "
            f"{path.parent}"
        )
    return state
