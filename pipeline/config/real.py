"""The `real` section of a config: which images there are and how they are brought to size.

Neighbours: `root.py` has the other sections, `real/sources/named.py` opens what is named here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import ImageCodec, NonNegative, Section, UserPath
from pipeline.config.subset import Limit


class RealConfig(Section):
    """The real images: where they come from and how they are brought to size."""

    source: Literal["digits", "folder", "cifar10", "cifar100", "stl10", "imagenet"] = "digits"
    """`digits`: the UCI handwritten digits inside scikit-learn. `folder`: your images under
    `path`. The others are torchvision's datasets, as it lays them out under `path`.
    """
    path: UserPath | None = None
    """For `folder`, with `train/` and, for evaluation, `test/`; class sub-folders give labels, a
    flat folder has none. For torchvision's datasets their `root`.
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

    @model_validator(mode="after")
    def _check(self) -> RealConfig:
        if self.source == "digits" and self.path is not None:
            raise ValueError("path is for other sources; the digits come with scikit-learn")
        if self.source == "folder" and self.path is None:
            raise ValueError("source=folder needs path=FOLDER with train/ and test/ inside")
        if self.source != "digits" and self.path is None:
            raise ValueError(f"source={self.source} needs path=FOLDER, torchvision's root of it")
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
