"""`python -m benchmarks.speed.render_stylegan3`: StyleGAN3's rendering, against its plain form.

Neighbour: `render_forms.py` says what is compared.
"""

from __future__ import annotations

import torch

from benchmarks.measure import ResultTable, prepare
from benchmarks.speed.reference_stylegan3 import Geometry, synthesise
from benchmarks.speed.render import Renderer
from benchmarks.speed.render_forms import build_forms, compare, forms_parser
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.stylegan3 import (
    StyleGAN3Architecture,
    StyleGAN3Input,
    StyleGAN3Layer,
)
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

    return build_forms(
        generator, z, None, lambda: synthesise(geometry, state, generator.mapping(z), CLAMP)
    )


def benchmark(
    sizes: dict[str, tuple[Geometry, int]], repeats: int, device: torch.device
) -> ResultTable:
    """Both forms of every network, batch by batch."""
    networks = (
        (f"StyleGAN3-{name}", batch, build_renderers(geometry, batch, device))
        for name, (geometry, batch) in sizes.items()
    )
    return compare(networks, repeats, device)


def main() -> None:
    """Run the command line."""
    arguments = forms_parser("StyleGAN3's rendering against its plain form in torch.").parse_args()
    _, device = prepare(arguments)
    sizes = {
        name: (geometry, arguments.batch or batch)
        for name, (geometry, batch) in SIZES.items()
        if geometry.resolution == 32 or not arguments.cifar
    }
    benchmark(sizes, arguments.repeats, device).show()


if __name__ == "__main__":
    main()
