"""The embedded default: handwritten digits inside scikit-learn, which need no download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.real.sources.source import Content, Entry, File, Findings, Reader, Row

NUM_TRAIN = 1437  # the last 360 digits are by other writers


@dataclass(frozen=True)
class DigitsSource:
    """UCI's handwritten digits (Alpaydin & Kaynak 1998), 8x8 grey levels 0-16."""

    split: str
    files: tuple[File, ...] = ()
    names: tuple[str, ...] | None = tuple(map(str, range(10)))

    def identity(self) -> dict[str, object]:
        """The split."""
        return {"kind": "digits", "split": self.split}

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """In the order of the set; nobody looks for them by name."""
        for row, label in enumerate(self._load().target):
            yield Entry(b"", str(label), position=row)

    def open(self) -> Reader:
        """Of arrays in memory."""
        return _DigitsReader(self._load().images)

    def _load(self) -> Any:
        from sklearn.datasets import load_digits
        from sklearn.utils import Bunch

        digits = load_digits()
        rows = slice(None, NUM_TRAIN) if self.split == "train" else slice(NUM_TRAIN, None)
        return Bunch(target=digits.target[rows], images=digits.images[rows])


class _DigitsReader:
    def __init__(self, images: np.ndarray) -> None:
        self._grey = np.round(images * (255 / 16)).astype(np.uint8)

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        return (self._grey[row.position] for row in rows)
