"""Synthetic samples in the plane, one picture per space: what `eval` leaves for the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.atomic import write_atomic
from shards.errors import UserError

_DECIMALS = 3  # of coordinates, which span some ten units, and of probabilities


@dataclass(frozen=True)
class EmbeddedSpace:
    """One space's picture.

    Attributes:
        name: `discriminator`, `w`, `generator` or `student`.
        num_dims: of the space.
        coordinates: [N, 2] float32, in no unit.
        agreement: share of nearest neighbours in the space with the same label, percent.
        plane_agreement: the same in the picture.
    """

    name: str
    num_dims: int
    coordinates: np.ndarray
    agreement: float
    plane_agreement: float


@dataclass(frozen=True)
class Embeddings:
    """The same samples in several spaces (Yang et al. 2022, Fig. 2).

    Attributes:
        spaces: their pictures.
        labels: [N] int64 of samples 0 … N-1 of the pool, predicted.
        confidences: [N] float32, probability of each.
        class_names: of all labels.
        classifier_accuracy: of what predicted them, on real test images, percent.
        chance_agreement: `agreement` of neighbours drawn at random.
        protocols: how labels, agreement and coordinates came to be.
    """

    spaces: tuple[EmbeddedSpace, ...]
    labels: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...]
    classifier_accuracy: float
    chance_agreement: float
    protocols: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.labels)
        shapes = {space.coordinates.shape for space in self.spaces}
        if self.confidences.shape != (count,) or shapes - {(count, 2)}:
            raise ValueError(f"{count} labels need a confidence and a point in the plane each")
        if count and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(f"labels must lie in [0, {len(self.class_names)})")

    def to_json(self) -> str:
        """One line; coordinates and confidences are rounded to three decimals."""
        return json.dumps(asdict(self), default=_rounded, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Embeddings:
        """What `to_json` wrote; raises ValueError, KeyError or TypeError for anything else."""
        fields: dict[str, Any] = json.loads(text)
        spaces = tuple(
            EmbeddedSpace(**{**space, "coordinates": np.array(space["coordinates"], np.float32)})
            for space in fields.pop("spaces")
        )
        return cls(
            spaces=spaces,
            labels=np.array(fields.pop("labels"), np.int64),
            confidences=np.array(fields.pop("confidences"), np.float32),
            class_names=tuple(fields.pop("class_names")),
            protocols=tuple(fields.pop("protocols")),
            **fields,
        )


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Replace `path`."""
    write_atomic(path, embeddings.to_json())


def read_embeddings(path: Path) -> Embeddings:
    """What `write_embeddings` left.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        return Embeddings.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: missing or damaged ({error}); run `make eval` again") from None


def _rounded(array: np.ndarray) -> Any:
    is_whole = array.dtype.kind == "i"
    return (array if is_whole else array.astype(float).round(_DECIMALS)).tolist()
