from __future__ import annotations

import torch

from benchmarks.measure import OURS
from benchmarks.speed import render_biggan
from benchmarks.speed.reference_biggan import Sizes
from benchmarks.speed.reference_biggan_deep import DeepSizes
from benchmarks.speed.render import check_equal
from tests.support.biggan_files import DEEP, HIERARCHICAL

CPU = torch.device("cpu")


def test_render_benchmark_of_biggans_has_a_row_for_each_and_checks_that_forms_agree() -> None:
    sizes: dict[str, tuple[Sizes | DeepSizes, int]] = {"a": (HIERARCHICAL, 2), "b": (DEEP, 3)}
    table = render_biggan.benchmark(sizes, repeats=1, device=CPU)
    assert [row[0] for row in table.rows] == ["a, batch 2", "b, batch 3"]


def test_both_forms_are_of_the_same_samples() -> None:
    renderers = render_biggan.build_renderers(HIERARCHICAL, 2, CPU)
    check_equal(renderers)
    assert renderers[OURS]()[0].shape == (2, 3, 32, 32)
