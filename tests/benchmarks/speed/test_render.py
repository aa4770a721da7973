from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.measure import OURS
from benchmarks.speed import render
from benchmarks.speed.reference_stylegan2 import relative_difference
from tests.support.tiny_benchmark import tiny_arch

CPU = torch.device("cpu")


@pytest.mark.parametrize("conv_clamp", [None, 0.5])
def test_reference_form_of_the_same_generator_gives_equal_images_and_features(
    conv_clamp: float | None,
) -> None:
    generator = render.build_random_generator(tiny_arch(conv_clamp=conv_clamp), CPU).double()
    renderers = render.build_renderers(generator, batch=3, dtype=torch.float64)

    for ours, reference in zip(renderers[OURS](), renderers[render.REFERENCE](), strict=True):
        assert relative_difference(ours, reference) < 1e-6


def test_equality_check_refuses_forms_that_differ() -> None:
    generator = render.build_random_generator(tiny_arch(), CPU)
    renderers = render.build_renderers(generator, batch=2)
    image, pooled = renderers[render.REFERENCE]()

    with pytest.raises(ValueError, match="differ"):
        render.check_equal({**renderers, render.REFERENCE: lambda: (image, pooled * 1.001)})


def test_count_of_operations_equals_that_of_the_papers_convolutions() -> None:
    arch = tiny_arch(resolution=8, channel_base=32, channel_max=4)
    renderers = render.build_renderers(render.build_random_generator(arch, CPU), batch=2)
    channels, w_dim, z_dim = 4, arch.w_dim, arch.z_dim

    convolutions = (
        9 * channels**2 * (4**2 + 4**2 + 8**2)
    )  # b4.conv1, b8.conv0 on its input, b8.conv1
    fir = 16 * channels * 8**2 + 16 * 3 * 4**2  # after b8.conv0, and of the image on its input
    to_rgb = 3 * channels * (4**2 + 8**2)
    linear = z_dim * w_dim + w_dim**2 + 5 * w_dim * channels
    expected = 2 * (convolutions + fir + to_rgb + linear) / 1e9

    assert render.count_gflop(renderers[render.REFERENCE], batch=2) == pytest.approx(expected)


def test_render_benchmark_at_toy_size_has_a_rate_for_every_part() -> None:
    arch = tiny_arch(resolution=8, channel_base=32, channel_max=4)
    table = render.benchmark(arch, batch=2, repeats=1, device=CPU)

    rows = {str(row[0]): row for row in table.rows}
    assert list(rows) == [
        "render and pool",
        "arithmetic done",
        "draw latents and noise (CPU)",
        "write the tars (CPU, disk)",
    ]
    for what, (_, ours, rival, theirs, ratio) in rows.items():
        number = float(str(ours).split()[0].replace(",", ""))
        assert number > 0
        if "CPU" not in what:
            assert rival == render.REFERENCE
            assert float(str(ratio).split()[0]) == pytest.approx(number / float(theirs), rel=0.1)


def test_render_command_prints_the_ratio_to_the_reference_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["render", "--batch", "2", "--repeats", "1"])
    threads = torch.get_num_threads()

    render.main()

    torch.set_num_threads(threads)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "render and pool" in line)
    assert render.REFERENCE in line
    assert " x " in line
