"""The `real` section of a config: which images there are and how they are brought to size.

Neighbours: `root.py` has the other sections, `real/sources/recognise.py` finds what is named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.config.fields import ImageCodec, NonNegative, Section, UserPath, unrecorded
from pipeline.config.subset import Limit


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
Byte = Annotated[int, Field(ge=0, le=255)]


class RealConfig(Section):
    """The real images: where they come from and how they are brought to size."""

    source: Literal["digits", "folder", "cifar10", "cifar100", "stl10", "imagenet"] = "digits"
    """`digits`: the UCI handwritten digits inside scikit-learn. `folder`, which is meant as soon as
    `path` or `train` is set: your images, in folders, zips, WebDataset tars or Parquet files. The
    others are torchvision's datasets, as it lays them out under `path`.
    """
    path: Location | None = None
    """Folder with `train/` and, for evaluation, `test/`, or with `train*` and `test*` that are
    tars, zips or Parquet files; for torchvision's datasets their `root`. A path or a URL.
    """
    train: Location | None = None
    """Train images by themselves, in place of those of `path`: a folder, zip, tar or Parquet file,
    or several of one kind as `part-{000..127}.tar` or `*.parquet`.
    """
    test: Location | None = None
    """Test images, likewise."""
    label_field: str | None = None
    """Which field of a tar's `json`, or column of a Parquet file, has the label. Unset: a tar's
    `cls`; the column whose metadata or name say so.
    """
    image_field: str | None = None
    """Which column of a Parquet file has the image; unset, the first that holds images."""
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """Red, green and blue behind transparent images."""
    unreadable: Literal["stop", "skip"] = unrecorded("stop")
    """What becomes of images that cannot be read: `stop` goes through all images, lists the bad
    ones and ends with an error; `skip` does without them. No image is decoded twice for it.
    """
    classes: UserPath | None = None
    """Text file with one class a line, by the name of its folder (ImageNet's: the wnid): the
    others are left out. For `folder` and `imagenet`; unset, all are taken.
    """
    limit: Limit | None = None
    """How many of the train images are taken: so many of all, in the classes' shares, or such as
    `10_per_class`; unset, all. A teacher learns from all of them: beside a limit it is one that is
    there, `teacher.checkpoint`.
    """
    limit_seed: NonNegative = 0
    """Of the draw of `limit` images."""
    test_from: Literal["test", "train"] = "test"
    """Where test images are from: `test`, a split of their own, or `train`, the train images that
    `limit` leaves out, on which settings are chosen without a look at test images.
    """
    resolution: Annotated[int, Field(ge=8, le=1024)] = 32
    """Side of the square images in pixels; a power of two where a teacher is trained on them."""
    samples_per_shard: Annotated[int, Field(gt=0, le=10**6)] = 1000
    """Images in one tar."""
    image_codec: ImageCodec = "npy"
    """How images are stored: `npy` raw, `png` lossless, `webp` (lossless at 100) or `jpg`."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Of `webp` and `jpg`."""

    @model_validator(mode="before")
    @classmethod
    def _choose_source(cls, data: Any) -> Any:
        """Own images are meant where some are named."""
        if not isinstance(data, Mapping) or data.get("source") is not None:
            return data
        has_own = any(data.get(name) is not None for name in ("path", "train", "test"))
        return {**data, "source": "folder"} if has_own else data

    @model_validator(mode="after")
    def _check(self) -> RealConfig:
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
        if self.test_from == "train" and self.limit is None:
            raise ValueError(
                "test_from=train takes the images that a limit leaves out; set limit, such as "
                "80_percent"
            )
        return self
