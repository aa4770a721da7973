from __future__ import annotations

import torch

from benchmarks.measure import OURS
from benchmarks.speed import render_stylegan3
from benchmarks.speed.reference_stylegan3 import Geometry

CPU = torch.device("cpu")
TINY = Geometry(resolution=16, channel_base=40, channel_max=4, num_layers=4, margin=4)


def test_render_benchmark_of_stylegan3_has_a_row_for_each_and_checks_that_forms_agree() -> None:
    table = render_stylegan3.benchmark({"tiny": (TINY, 2)}, repeats=1, device=CPU)
    assert [row[0] for row in table.rows] == ["StyleGAN3-tiny, batch 2"]


def test_both_forms_have_images_and_features_of_the_same_samples() -> None:
    renderers = render_stylegan3.build_renderers(TINY, 2, CPU)
    for image, pooled in (render() for render in renderers.values()):
        assert image.shape == (2, 3, 16, 16)
        assert pooled.shape == (2, 4 + sum(layer.out_channels for layer in TINY.layers))
    assert OURS in renderers
