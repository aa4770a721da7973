"""What the page says that a student learned from."""

from __future__ import annotations

import pytest

from pipeline.config.root import Config
from pipeline.records.products import RealImages
from pipeline.report.lineage import describe_lesson

ALL = RealImages("folder", {"train": 1437, "test": 360}, (), {})
DRAWN = RealImages("folder", {"train": 100, "test": 360}, (), {}, num_available=1437)


def test_lesson_counts_the_images_of_both_domains() -> None:
    text = describe_lesson(Config(name="x"), 20_000, ALL)
    assert text.endswith(
        "the student learned from 20,000 images rendered once by a frozen generator and from 1,437 "
        "real images without labels."
    )


@pytest.mark.parametrize(
    ("method", "names_the_gan"), [("squeeze_and_span", True), ("vicreg", False)]
)
def test_lesson_of_some_of_the_images_says_of_how_many(method: str, names_the_gan: bool) -> None:
    train = {"method": {"name": method}, "images": "both" if names_the_gan else "real"}
    text = describe_lesson(Config.model_validate({"name": "x", "train": train}), 20_000, DRAWN)
    assert "100 real images are drawn from 1,437" in text
    assert ("generator has seen" in text) is names_the_gan
