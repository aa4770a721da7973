"""What stands beside a student, and what its numbers say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.ray import RayConfig
from pipeline.engine.workers import Workers
from pipeline.eval.subjects import PIXELS_REMARK, baselines
from tests.eval.test_stage import make_run
from tests.support.tiny_shards import real_arrays


@pytest.mark.parametrize(
    ("view_size", "side", "remark"),
    [(16, 16, ""), (32, 32, ""), (64, 64, ""), (65, 32, PIXELS_REMARK), (96, 32, PIXELS_REMARK)],
)
def test_pixels_of_large_images_alone_are_those_of_small_ones_and_say_so(
    tmp_path: Path, view_size: int, side: int, remark: str
) -> None:
    arrays = real_arrays(8)
    part = (arrays["image"], np.array(arrays["label"]))
    config = make_run(tmp_path, part, part)
    sized = config.train.model_copy(update={"view_size": view_size})
    workers = Workers(RayConfig(), "cpu")
    *_, pixels = baselines(config.model_copy(update={"train": sized}), workers)
    assert (pixels.name, pixels.side, pixels.remark) == ("raw_pixels", side, remark)
