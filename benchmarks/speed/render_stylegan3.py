"""`python -m benchmarks.speed.render_stylegan3`: StyleGAN3's rendering, against its plain form.

A turn is latents -> image and block features -> pooled features. Both forms compute on the same
weights, and are first shown to give equal results. Neighbour: `render.py` does it for StyleGAN2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    interleave,
    prepare,
    tabulate_ratios,
)
from benchmarks.speed.reference_stylegan3 import Geometry, synthesise
from benchmarks.speed.render import REFERENCE, Renderer, check_equal
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.stylegan3 import (
    StyleGAN3Architecture,
    StyleGAN3Input,
    StyleGAN3Layer,
)
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.networks.stylegan3 import StyleGAN3Generator

CLAMP = 256.0
SIZES: dict[str, tuple[Geometry, int]] = {
    "T, 32 px": (Geometry(resolution=32, channel_base=2048, channel_max=64), 4),
    "R, 32 px": (
        Geometry(resolution=32, channel_base=4096, channel_max=128, kernel=1, is_radial=True),
        4,
    ),
    "T, 128 px": (Geometry(resolution=128, channel_base=4096, channel_max=64), 1),
    "R, 128 px": (
        Geometry(resolution=128, channel_base=8192, channel_max=128, kernel=1, is_radial=True),
        1,
    ),
    "T, 32 px, full width": (Geometry(resolution=32, channel_base=16384, channel_max=512), 1),
}
"""What is measured, and its batch: settings of the authors, mostly at an eighth of their width."""


def describe(geometry: Geometry, z_dim: int, w_dim: int) -> StyleGAN3Architecture:
    """The architecture of `geometry`, clamped as usual."""
    first = geometry.layers[0]
    return StyleGAN3Architecture(
        z_dim=z_dim,
        w_dim=w_dim,
        num_mapping_layers=2,
        input=StyleGAN3Input(
            first.in_channels, first.in_size, float(first.in_rate), first.in_cutoff
        ),
        layers=tuple(
            StyleGAN3Layer(
                num_channels=layer.out_channels,
                size=layer.out_size,
                kernel=layer.kernel,
                up=layer.up,
                up_taps=layer.up_taps,
                down=layer.down,
                down_taps=layer.down_taps,
                padding=layer.padding,
                is_radial=layer.is_radial,
                conv_clamp=CLAMP,
                is_half=True,
            )
            for layer in geometry.layers
        ),
    )


def build_random_generator(
    geometry: Geometry, z_dim: int = 64, w_dim: int = 64
) -> StyleGAN3Generator:
    """A frozen generator with random weights and the filters of `geometry`: no part is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(0, "benchmark/stylegan3").initial_seed())
        generator = StyleGAN3Generator(describe(geometry, z_dim, w_dim))
        for name, parameter in generator.named_parameters():
            if name.endswith("bias") and "affine" not in name:
                torch.nn.init.normal_(parameter.data, std=0.1)
        for layer, given in zip(generator.synthesis.layers, geometry.layers, strict=True):
            layer.up_filter, layer.down_filter = given.filters()
            layer.magnitude_ema.uniform_(0.5, 2)
    return generator.eval().requires_grad_(False)


def build_renderers(geometry: Geometry, batch: int, device: torch.device) -> dict[str, Renderer]:
    """Our form, as loaded teachers have it, and the plain one; each returns image and pooled
    features of one batch.
    """
    generator = build_random_generator(geometry).to(device)
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}
    draws = torch_generator(0, "benchmark/stylegan3/latents")
    z = torch.randn(batch, generator.arch.z_dim, generator=draws).to(device)

    @torch.no_grad()
    def ours() -> tuple[Tensor, Tensor]:
        with captured(generator, generator.blocks) as features:
            image = generator(z).image
        return image, pool_features(features)

    @torch.no_grad()
    def reference() -> tuple[Tensor, Tensor]:
        image, features = synthesise(geometry, state, generator.mapping(z), CLAMP)
        return image, pool_features(features)

    return {OURS: ours, REFERENCE: reference}


def benchmark(
    sizes: dict[str, tuple[Geometry, int]], repeats: int, device: torch.device
) -> ResultTable:
    """Check that both forms of every network agree, then time them turn by turn."""
    rows: list[tuple[TableCell, ...]] = []
    for name, (geometry, batch) in sizes.items():
        renderers = build_renderers(geometry, batch, device)
        check_equal(renderers)
        seconds = interleave(renderers, repeats, device)
        rates = {form: batch / value for form, value in seconds.items()}
        rows += against_rivals(f"StyleGAN3-{name}, batch {batch}", "images/s", rates)
    return tabulate_ratios("render and pool", device, rows)


def main() -> None:
    """Run the command line."""
    parser = common_parser("StyleGAN3's rendering against its plain form in torch.")
    parser.set_defaults(threads=1)  # `make generate` renders every shard on one CPU thread
    arguments = parser.parse_args()
    _, device = prepare(arguments)
    sizes = {
        name: (geometry, arguments.batch or batch)
        for name, (geometry, batch) in SIZES.items()
        if geometry.resolution == 32 or not arguments.cifar
    }
    benchmark(sizes, arguments.repeats, device).show()


if __name__ == "__main__":
    main()
