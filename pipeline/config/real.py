"""The `real` section of a config: which images there are and how they are brought to size.

Neighbours: `root.py` has the other sections, `images.py` what labelled sets say of images, too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import ImageCodec, NonNegative, unrecorded
from pipeline.config.images import ImageSource, NamedImages
from pipeline.config.subset import Limit

Byte = Annotated[int, Field(ge=0, le=255)]


STORED_ALIKE = ("background", "unreadable", "resolution", "samples_per_shard", "image_codec",
                "image_quality")  # fmt: skip
"""Fields that other images beside a run's own take over from those; the rest says which images."""


class RealConfig(NamedImages):
    """The real images: where they come from and how they are brought to size."""

    takes_whole: ClassVar[bool] = False
    """Whether a folder `path` without splits in it has the train images themselves."""
    source: ImageSource = "digits"
    """`digits`: the UCI handwritten digits inside scikit-learn. `folder`, which is meant as soon as
    `path` or `train` is set: your images, in folders, zips, WebDataset tars or Parquet files. The
    others are torchvision's datasets, as it lays them out under `path`.
    """
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """Red, green and blue behind transparent images."""
    unreadable: Literal["stop", "skip"] = unrecorded("stop")
    """What becomes of images that cannot be read: `stop` goes through all images, lists the bad
    ones and ends with an error; `skip` does without them. No image is decoded twice for it.
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
        self.check_source()
        if self.test_from == "train" and self.limit is None:
            raise ValueError(
                "test_from=train takes the images that a limit leaves out; set limit, such as "
                "80_percent"
            )
        return self

    def reword(self, text: str) -> str:
        """A message about these images, with the fields that name them."""
        return text
