from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.measure import OURS
from benchmarks.speed.stream import benchmark
from benchmarks.speed.stream_samples import KINDS, read_samples
from benchmarks.speed.stream_tools import TOOLS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raw", "jpg"])
def test_stream_benchmark_at_toy_size_reads_every_sample_without_rivals(
    kind: str, tmp_path: Path
) -> None:
    kinds = [KINDS[kind].resized(32)]

    ratios, others = benchmark(kinds, [TOOLS[OURS]], cores=[1], batch=4, repeats=1, folder=tmp_path)

    ((what, ours, rival, _, _),) = ratios.rows
    assert what == f"{kind}, 1 core"
    assert float(str(ours).split()[0].replace(",", "")) > 0
    assert rival == ""
    ((_, name, first_batch_ms, _),) = others.rows
    assert name == OURS
    assert float(first_batch_ms) > 0


def test_stream_benchmark_converts_the_samples_of_the_pool(tmp_path: Path) -> None:
    kind = KINDS["jpg"].resized(4)
    kind.write(tmp_path)
    samples = list(read_samples(kind, tmp_path))

    images = kind.open(tmp_path).images.gather("image", np.arange(4))

    assert [sample.index for sample in samples] == [0, 1, 2, 3]
    for sample, image in zip(samples, images, strict=True):
        assert isinstance(sample.image, bytes)
        pixels = np.asarray(Image.open(io.BytesIO(sample.image))).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, image)
