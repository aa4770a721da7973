"""What the page says that a student learned from."""

from __future__ import annotations

import pytest

from pipeline.config.root import Config
from pipeline.records.products import RealImages
from pipeline.report.lineage import describe_lesson

ALL = RealImages("folder", {"train": 1437, "test": 360}, (), {})
DRAWN = RealImages("folder", {"train": 100, "test": 360}, (), {}, num_available=1437)


def test_lesson_counts_the_images_of_both_domains() -> None:
    text = describe_lesson(Config(name="x"), 20_000, ALL, 1437)
    assert text.endswith(
        "the student learned from 20,000 images rendered once by a frozen generator and from 1,437 "
        "real images without labels."
    )


@pytest.mark.parametrize(
    ("images", "num_teacher", "said"),
    [
        ("both", 1437, "The generator was trained on 1,437 real images."),
        ("both", None, "The generator was trained on unknown images."),
        ("real", 1437, "no other was used to fit its probes."),
    ],
)
def test_lesson_of_some_of_the_images_says_of_how_many(
    images: str, num_teacher: int | None, said: str
) -> None:
    train = {"method": {"name": "vicreg"}, "images": images}
    config = Config.model_validate({"name": "x", "train": train})
    text = describe_lesson(config, 20_000, DRAWN, num_teacher)
    assert "100 real images are drawn from 1,437" in text
    assert text.endswith(said)
