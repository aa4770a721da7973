"""The GPU's form of the views against the CPU's, which is tested against torchvision."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.student.masked_views import choose_views, make_masked_views
from pipeline.student.views import ViewParameters
from tests.support.views import STILL, draw, identity, masked_views_of, views_of

# Grids, blends and means are float32 sums in another order: a pixel is read up to 1e-5 of its width
# off, and what is compared are images of noise. Seen: 5e-6.
TOLERANCE = {"rtol": 0.0, "atol": 2e-5}
EVERYTHING = AugmentConfig(
    rotation_deg=20, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5, blur_p=0.5
)
CONFIGS = {
    "everything": EVERYTHING,
    "the default": AugmentConfig(),
    "crop and flip": AugmentConfig(jitter_p=0, grayscale_p=0),
    "no jitter": EVERYTHING.model_copy(update={"jitter_p": 0.0}),
    "no grey": EVERYTHING.model_copy(update={"grayscale_p": 0.0}),
    "nothing": STILL,
}


def draw_images(batch: int, side: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "side"), [(8, 8), (32, 32), (24, 32), (48, 32), (60, 16)])
@pytest.mark.parametrize("name", CONFIGS)
def test_masked_views_equal_plain_ones(name: str, size: int, side: int) -> None:
    config, images = CONFIGS[name], draw_images(200, size)
    views = draw(config, 200)
    before = images.clone()
    found = masked_views_of(images, views, config, side)
    assert torch.equal(images, before)
    torch.testing.assert_close(found, views_of(images, views, side), **TOLERANCE)


def test_masked_views_of_grey_saturated_and_black_pixels_equal_plain_ones() -> None:
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))  # [27, 3]
    images = corners[:, :, None, None].expand(27, 3, 8, 8).repeat(20, 1, 1, 1)
    views = draw(EVERYTHING, len(images))
    found = masked_views_of(images, views, EVERYTHING)
    torch.testing.assert_close(found, views_of(images, views), **TOLERANCE)


def test_masked_views_keep_every_order_of_the_jitter() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    images = draw_images(1).repeat(len(orders), 1, 1, 1)
    factors = torch.tensor([1.4, 1.6, 0.5, 0.2]).repeat(len(orders), 1)
    views = replace(identity(len(orders)), factors=factors, order=orders)
    found = masked_views_of(images, views, EVERYTHING)
    torch.testing.assert_close(found, views_of(images, views), **TOLERANCE)
    assert (found[0] - found[-1]).abs().max() > 0.01


def test_masked_views_of_neutral_parameters_are_the_images() -> None:
    images = draw_images(4)
    found = masked_views_of(images, identity(), EVERYTHING)
    torch.testing.assert_close(found, images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [16, 12, 24])
def test_masked_views_ask_for_no_values(size: int) -> None:
    """Tensors without values show that no branch and no size depends on what was drawn."""
    views = ViewParameters(*(tensor.to("meta") for tensor in draw(EVERYTHING, 5).tensors))
    found = masked_views_of(torch.empty(5, 3, size, size, device="meta"), views, EVERYTHING, 16)
    assert found.shape == (5, 3, 16, 16)


def test_choose_views_takes_the_plain_form_on_a_cpu_and_the_masked_one_elsewhere() -> None:
    images, views = draw_images(8), draw(EVERYTHING, 8)
    plain = choose_views(STILL, torch.device("cpu"), 16)
    assert torch.equal(plain([images], views), views_of(images, views))
    chosen = choose_views(STILL, torch.device("cuda"), 16)
    assert torch.equal(chosen([images], views), masked_views_of(images, views, STILL))


def compiled(config: AugmentConfig, **options: Any) -> Callable[..., Tensor]:
    torch._dynamo.reset()
    made: Callable[..., Tensor] = torch.compile(
        partial(make_masked_views, config=config, side=16), fullgraph=True, dynamic=False, **options
    )
    return made


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(16,), (24,), (16, 24)])
def test_masked_views_are_one_graph_for_every_draw(sizes: tuple[int, ...]) -> None:
    make = compiled(EVERYTHING, backend="aot_eager")
    images = [draw_images(16, size) for size in sizes]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(3):
            views = draw(EVERYTHING, 16 * len(sizes), seed)
            torch.testing.assert_close(
                make(images, views), make_masked_views(images, views, EVERYTHING, 16), **TOLERANCE
            )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # compilers warn of what they find or miss
def test_masked_views_are_compiled_to_few_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their C++ is written and not built, which takes most of a minute, nor are the compiler and
    the processor asked what they know.
    """
    from torch._inductor import async_compile, cpu_vec_isa, metrics

    monkeypatch.setattr(cpu_vec_isa, "valid_vec_isa_list", list)
    built = async_compile.AsyncCompile
    monkeypatch.setattr(built, "cpp_pybinding", lambda *_, **__: lambda *_: None)
    metrics.reset()
    compiled(EVERYTHING)([draw_images(64)], draw(EVERYTHING, 64))
    assert (
        0 < metrics.generated_kernel_count <= 20
    )  # of some 350 calls; 17 seen, 9 of them the blur
