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
    """The real images: where they come from and how they are stored."""

    takes_whole: ClassVar[bool] = False
    """Whether a folder `path` without splits in it has the train images themselves."""
    source: ImageSource = "digits"
    """`digits`: the UCI handwritten digits inside scikit-learn. `folder`: your own images in
    folders, zips, WebDataset tars or Parquet files; implied when `path` or `train` is set. The
    others are torchvision's data sets, in torchvision's layout under `path`.
    """
    background: tuple[Byte, Byte, Byte] = (255, 255, 255)
    """Red, green and blue behind transparent images."""
    unreadable: Literal["stop", "skip"] = unrecorded("stop")
    """What to do with images that cannot be read: `stop` reads all images, lists the bad ones
    and ends with an error; `skip` leaves them out. Switching to `skip` decodes no image twice.
    """
    limit: Limit | None = None
    """Use some of the train images only: a number of images, in the classes' shares, or
    `10_per_class` or `5_percent`. A limited run needs an existing teacher,
    `teacher.checkpoint`, as teachers are trained on all images.
    """
    limit_seed: NonNegative = 0
    """Seed that draws the images of `limit`."""
    test_from: Literal["test", "train"] = "test"
    """Test images: `test`, the test split, or `train`, the train images that `limit` leaves
    out, to choose settings without looking at test images.
    """
    resolution: Annotated[int, Field(ge=8, le=1024)] = 32
    """Side of the stored square images, in pixels; a power of two if a teacher is trained on
    them.
    """
    samples_per_shard: Annotated[int, Field(gt=0, le=10**6)] = 1000
    """Images in one tar."""
    image_codec: ImageCodec = "npy"
    """How images are stored: `npy` raw, `png` lossless, `webp` (lossless at 100) or `jpg`."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Quality of `webp` and `jpg`."""

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
