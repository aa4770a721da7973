"""Training states that travel: smaller, and in parts, from one borrowed machine to the next.

Weights go as float16 (11 bits; the weights of our networks lie well inside its range), second
moments of Adam as bfloat16, and what an optimiser relearns within some ten steps stays behind:
momentum, and Adam's first moments, which with β₁ = 0 are the last gradient. A resumed training is
therefore not the uninterrupted one to the bit; its journal says how often it travelled.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.state import load_state, save_state
from shards.atomic import write_atomic
from shards.errors import UserError

PART_BYTES = 15 << 20
"""Of one file: less than the 16 MiB that come back from a borrowed machine."""
JOURNAL = "journal.jsonl"
_CPU = torch.device("cpu")
_STATES = {"teacher": ("state.pt", "images_seen"), "train": ("checkpoint.pt", "samples_seen")}
_LEFT_BEHIND = ("momentum_buffer", "exp_avg")


@dataclass(frozen=True)
class Parcel:
    """A state that was packed or unpacked."""

    run: str
    stage: str
    position: int
    """Images or samples seen."""
    num_bytes: int


def pack(runs: Path, run: str, out: Path) -> list[Parcel]:
    """Pack the states of `run` into files of at most `PART_BYTES` in `out`."""
    parcels = []
    for stage, (name, clock) in _STATES.items():
        path = runs / run / stage / name
        state = load_state(path, _CPU)
        if state is None:
            continue
        texts = {
            file: (runs / run / file).read_text(encoding="utf-8")
            for file in (f"{stage}/metrics.jsonl", JOURNAL)
            if (runs / run / file).exists()
        }
        buffer = io.BytesIO()
        torch.save({"state": shrink(state), "texts": texts}, buffer)
        content = buffer.getvalue()
        content += hashlib.sha256(content).digest()
        for old in out.glob(f"{run}.{stage}.part*"):
            old.unlink()
        for index, first in enumerate(range(0, len(content), PART_BYTES)):
            part = content[first : first + PART_BYTES]
            write_atomic(out / f"{run}.{stage}.part{index}", part)
        parcels.append(Parcel(run, stage, int(state[clock]), len(content)))
    return parcels


def unpack(carried: Path, runs: Path) -> Iterator[Parcel]:
    """Put the states found in `carried` where a training takes them up, unless one there is as far.

    Raises:
        UserError: if parts are missing or damaged.
    """
    for first in sorted(carried.glob("*.part0")):
        run, stage, _ = first.name.rsplit(".", 2)
        name, clock = _STATES[stage]
        content = _join(carried, f"{run}.{stage}")
        parcel = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        state = grow(parcel["state"])
        path = runs / run / stage / name
        present = load_state(path, _CPU)
        if present is not None and present[clock] >= state[clock]:
            continue
        for file, text in parcel["texts"].items():
            write_atomic(runs / run / file, text)
        save_state(path, state)
        note(runs / run, {"event": "travelled", "stage": stage, clock: int(state[clock])})
        yield Parcel(run, stage, int(state[clock]), len(content))


def note(folder: Path, entry: dict[str, Any]) -> None:
    """Append an entry to the journal of the run in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def shrink(state: Any) -> Any:
    """`state` with smaller numbers, less what is left behind; `grow` is as near to its inverse as
    there is.
    """
    if isinstance(state, Tensor):
        return _smaller(state)
    if isinstance(state, list):
        return [shrink(value) for value in state]
    if not isinstance(state, dict):
        return state
    second = "exp_avg_sq"
    return {
        key: value.bfloat16() if key == second else shrink(value)
        for key, value in state.items()
        if key not in _LEFT_BEHIND
    }


def grow(state: Any) -> Any:
    """Float32 numbers of a state that `shrink` made, with zeros for Adam's first moments."""
    if isinstance(state, Tensor):
        return state.float() if state.dtype in (torch.float16, torch.bfloat16) else state
    if isinstance(state, list):
        return [grow(value) for value in state]
    if not isinstance(state, dict):
        return state
    grown = {key: grow(value) for key, value in state.items()}
    if "exp_avg_sq" in grown:
        grown["exp_avg"] = torch.zeros_like(grown["exp_avg_sq"])
    return grown


def _smaller(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or tensor.dim() < 2:  # of vectors there are few numbers
        return tensor
    half = tensor.half()
    return half if half.isfinite().all() else tensor


def _join(carried: Path, name: str) -> bytes:
    """The parts of `name`, checked."""
    paths = sorted(carried.glob(f"{name}.part*"), key=lambda path: int(path.suffix[5:]))
    content = b"".join(path.read_bytes() for path in paths)
    payload, digest = content[:-32], content[-32:]
    if hashlib.sha256(payload).digest() != digest:
        raise UserError(f"{carried}/{name}.part*: a part is missing or damaged; carry all of them")
    return payload
