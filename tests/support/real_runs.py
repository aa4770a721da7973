"""Stage `real` on thirty small images, some of which cannot be read, and what it did of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.root import Config
from pipeline.real import fill, pack, stage
from pipeline.records.products import RealImages, real_shards
from pipeline.records.record import Record
from tests.support.real_images import INPUTS, number_of, write_folder

BAD = {7: b"", 8: b"text", 23: (INPUTS / "unreadable" / "cut-in-half.jpg").read_bytes()}
"""Of the images, those that cannot be read."""


def write_images(folder: Path, count: int = 30, bad: dict[int, bytes] | None = None) -> Path:
    """Images of two classes in turn to train, five to test."""
    files: dict[str, bytes | int] = {
        f"train/{'ab'[n // 15 % 2]}/{n:03}.png": n for n in range(count)
    }
    files |= {
        f"train/{'ab'[n // 15 % 2]}/{n:03}.png": content for n, content in (bad or {}).items()
    }
    files |= {f"test/b/{n:03}.png": n for n in range(5)}
    return write_folder(folder, files)


def run_stage(config: Config) -> Record[RealImages]:
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    return record


class Counts:
    """How often each image was decoded, and which shards were packed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = Counter[bytes]()
        self.packed: list[tuple[str, str, int]] = []
        self.interrupt_at: int | None = None
        decode, pack_shard = pack.decode, fill.pack_shard

        def count(content: bytes, *arguments: Any) -> np.ndarray:
            self.decoded[content] += 1
            if self.interrupt_at is not None and self.decoded.total() > self.interrupt_at:
                raise KeyboardInterrupt
            return decode(content, *arguments)

        def note(packing: pack.Packing, index: int) -> pack.PackedShard:
            done = pack_shard(packing, index)
            self.packed.append((packing.folder.name, packing.split, index))
            return done

        monkeypatch.setattr(pack, "decode", count)
        monkeypatch.setattr(fill, "pack_shard", note)


def samples(config: Config, record: Record[RealImages], split: str) -> list[dict[str, Any]]:
    """What `meta` says of each sample, with its number and label."""
    reader = real_shards(config, split, record.outputs).open()
    rows = np.arange(reader.num_samples)
    metas = [json.loads(bytes(meta)) for meta in reader.gather("meta", rows)]
    numbers = [number_of(image) for image in reader.gather("image", rows)]
    labels = reader.gather("label", rows).tolist()
    return [
        {**meta, "number": number, "is_same": meta["label"] == label}
        for meta, number, label in zip(metas, numbers, labels, strict=True)
    ]
