"""Where images are and how their labels are found: what section `real` and every labelled set of
`eval.sets` say of their images.

Neighbours: `real.py` and `labelled_set.py` have the sections; `real/sources/recognise.py` finds
what is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from pipeline.config.fields import Section, UserPath


def _to_location(location: object) -> object:
    if location is None:
        return None
    if not isinstance(location, str | Path):
        raise ValueError(f"must be one path, URL or pattern, got {location!r}")
    text = str(location)
    if text.startswith("pipe:") or "::" in text:
        raise ValueError(f"must be a path or a URL such as s3://bucket/folder, got {text!r}")
    return text if "://" in text else Path(text).expanduser()


Location = Annotated[Path | str, BeforeValidator(_to_location)]
"""A path, or a URL that fsspec knows; wildcards and braces may stand for several."""
ImageSource = Literal["digits", "folder", "cifar10", "cifar100", "stl10", "imagenet"]


class NamedImages(Section):
    """Images of a train split and of a test split."""

    source: str
    """Whose images they are."""
    path: Location | None = None
    """Folder or URL with `train/` and, for evaluation, `test/`, or with `train*` and `test*`
    that are tars, zips or Parquet files. For torchvision's data sets, their `root`.
    """
    train: Location | None = None
    """Train images, in place of those under `path`: a folder, zip, tar or Parquet file, or
    several of one kind as `part-{000..127}.tar` or `*.parquet`.
    """
    test: Location | None = None
    """Test images, in the same forms as `train`."""
    label_field: str | None = None
    """Field of a tar's `json`, or column of a Parquet file, with the label. By default a tar's
    `cls`, and the Parquet column that its metadata or name mark as the label.
    """
    image_field: str | None = None
    """Column of a Parquet file with the image; by default the first one that holds images."""
    classes: UserPath | None = None
    """Text file with one class per line, by folder name (for ImageNet the wnid); all other
    classes are left out. For `folder` and `imagenet` only; by default all classes are taken.
    """

    @model_validator(mode="before")
    @classmethod
    def _choose_source(cls, data: Any) -> Any:
        """Own images are meant where some are named."""
        if not isinstance(data, Mapping) or data.get("source") is not None:
            return data
        has_own = any(data.get(name) is not None for name in ("path", "train", "test"))
        return {**data, "source": "folder"} if has_own else data

    @property
    def location(self) -> str:
        """Where the images are, for readers."""
        return str(self.train or self.path or self.source)

    def check_source(self) -> None:
        """Whether the fields suit `source`; raises ValueError."""
        own = {"train": self.train, "test": self.test}
        if self.source == "digits" and (self.path is not None or any(own.values())):
            raise ValueError(
                "path, train and test are for other sources; the digits come with scikit-learn "
                "(source=folder reads your images)"
            )
        if self.source == "folder" and self.path is None and self.train is None:
            raise ValueError(
                "source=folder needs path=FOLDER with train/ and test/ inside, or train=IMAGES"
            )
        if self.source not in ("digits", "folder") and (self.path is None or any(own.values())):
            raise ValueError(
                f"source={self.source} needs path=FOLDER, torchvision's root of it, and neither "
                "train nor test"
            )
        if self.source not in ("digits", "folder") and not isinstance(self.path, Path):
            raise ValueError(f"source={self.source} reads a local folder, got {self.path}")
        if self.classes is not None and self.source not in ("folder", "imagenet"):
            raise ValueError(
                f"classes is for source=folder and source=imagenet, not for {self.source}"
            )
