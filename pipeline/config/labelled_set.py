"""A labelled set of the user's own, `eval.sets.NAME`, on which students are measured beside the
run's own labels.

Neighbours: `eval.py` has the mapping; `records/sets.py` has the config under which stage `real`
packs a set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, model_validator

from pipeline.config.fields import spelled, unrecorded
from pipeline.config.images import ImageSource, NamedImages
from pipeline.config.real import STORED_ALIKE, RealConfig
from pipeline.config.transfer import SetName

ERICSSON = "ericsson"
ELEVEN: tuple[str, ...] = get_args(SetName)
"""Data sets of Ericsson et al. 2021."""
_KNOWN = {*ELEVEN, *get_args(ImageSource)} - {"folder"}
"""Names that mean published images, whoever uses them."""
_FIELDS = "|".join(NamedImages.model_fields)
_OF_REAL = re.compile(rf"^real(?=: )|(?<![\w./-])real(?=\.(?:{_FIELDS})(?![\w-]|\.\w))")


class SetImages(RealConfig):
    """Section `real` of a config that packs a labelled set."""

    takes_whole: ClassVar[bool] = True
    place: str = unrecorded("real")
    """Where the config has these fields, such as `eval.sets.mine`."""

    def reword(self, text: str) -> str:
        """`text` with the set's fields in place of those of `real`."""
        return _OF_REAL.sub(self.place, text)


class LabelledSetConfig(NamedImages):
    """A labelled set: a probe is fitted to one part of it and scored on another.
    `eval.sets.NAME=FOLDER` is short for `eval.sets.NAME.path=FOLDER`. A set without test images is
    cross-validated; so is a `path` without splits: a folder or zip of classes, tars, Parquet files.
    """

    source: Literal[ImageSource, "ericsson"] = "folder"
    """As in `real`, or `ericsson`: one of the eleven data sets of Ericsson et al. 2021, chosen
    by the name of the set, in torchvision's layout under `path` or `transfer.root`.
    """

    @model_validator(mode="before")
    @classmethod
    def _name_path(cls, data: Any) -> Any:
        if isinstance(data, str | Path):
            return {"path": data}
        if not isinstance(data, Mapping | LabelledSetConfig):
            raise ValueError(f"must be a folder, or fields such as train: FOLDER, got {data!r}")
        return data

    @model_validator(mode="after")
    def _check(self) -> LabelledSetConfig:
        if self.source == ERICSSON:
            self._check_ericsson()
            return self
        if self.source == "folder" and self.path is None and self.train is None:
            what = "names test images only" if self.test is not None else "names no images"
            raise ValueError(
                f"{what}; set path=FOLDER, or train=IMAGES, of which some are tested unless test "
                "names others"
            )
        self.check_source()
        return self

    def _check_ericsson(self) -> None:
        others = set(NamedImages.model_fields) - {"source", "path"}
        unused = sorted(name for name in others if getattr(self, name) is not None)
        if unused:
            raise ValueError(
                f"source={ERICSSON} has splits and labels of its own; leave out {unused[0]}"
            )
        if self.path is not None and not isinstance(self.path, Path):
            raise ValueError(f"source={ERICSSON} reads a local folder, got {self.path}")

    def as_real(self, real: RealConfig, name: str) -> SetImages:
        """Section `real` that packs this set, called `name`: stored as the run's own images are.

        Raises:
            ValueError: for one of the eleven, which are not packed.
        """
        if self.source == ERICSSON:
            raise ValueError(f"{name}: is read where it lies")
        named = {field: getattr(self, field) for field in NamedImages.model_fields}
        alike = {field: getattr(real, field) for field in STORED_ALIKE}
        return SetImages(**named, **alike, place=f"eval.sets.{name}")


def _check_names(sets: Mapping[str, LabelledSetConfig]) -> Mapping[str, LabelledSetConfig]:
    for name, labelled in sets.items():
        if labelled.source == ERICSSON and name not in ELEVEN:
            raise ValueError(
                f"{name} is none of the eleven of source={ERICSSON}: {', '.join(ELEVEN)}"
            )
        if name in _KNOWN and labelled.source not in (name, ERICSSON):
            source = ERICSSON if name in ELEVEN else name
            raise ValueError(
                f"{name} is the name of a published data set; choose another, or take that one "
                f"with source={source}"
            )
        if name == "folder":
            raise ValueError("folder is the name of a run's own images in results; choose another")
    return sets


_SetKey = Annotated[
    str,
    spelled(
        r"[A-Za-z0-9][A-Za-z0-9_-]*",
        "have only letters from a to z, digits, underscores and hyphens, and begin with a letter "
        "or digit",
    ),
]


def _check_mapping(sets: object) -> object:
    if not isinstance(sets, Mapping):
        raise ValueError(f"name each set, as eval.sets.NAME={sets}")
    return sets


LabelledSets = Annotated[
    Mapping[_SetKey, LabelledSetConfig],
    AfterValidator(_check_names),
    BeforeValidator(_check_mapping),
]
"""Sets by the names that their numbers have in the ledger."""
