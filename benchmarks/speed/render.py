"""`python -m benchmarks.speed.render`: a teacher's rendering, against StyleGAN2-ADA's own form.

A turn is what rendering computes for one batch: latents -> image and block features -> pooled
features, both forms on the same weights and first shown to give equal results in full float32. The
other two parts of `make generate` – drawing latents and noise, writing the tars – are timed alone,
to say which of the three binds.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import (
    OURS,
    ResultTable,
    against_rivals,
    common_parser,
    full_float32,
    interleave,
    prepare,
    tabulate_ratios,
)
from benchmarks.random_shards import blocks_of, pool_schemas, random_columns
from benchmarks.speed.operations import count_work
from benchmarks.speed.reference_stylegan2 import relative_difference, render_reference
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.description import Sampling
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.training.step import build_architectures
from shards.manifest import shard_name
from shards.storage import Folder
from shards.writer import write_shard

REFERENCE = "reference form"
TOLERANCE = 1e-4
_CIFAR_BATCH = 16
SAMPLING = Sampling(seed=0, noise="random", truncation_psi=1.0, truncation_cutoff=None)
"""Random noise; which samples does not matter here."""
Renderer = Callable[[], tuple[Tensor, Tensor]]


def build_random_generator(arch: StyleGAN2Architecture, device: torch.device) -> Generator:
    """A frozen generator with random weights, noise strengths and biases: no part is zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(0, "benchmark/generator").initial_seed())
        generator = Generator(arch)
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength") or (name.endswith("bias") and "affine" not in name):
                torch.nn.init.normal_(parameter.data, std=0.1)
    return generator.eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class Variant:
    """One more way to run our form: half precision in the blocks made for it, and compiled."""

    precision: torch.dtype
    is_compiled: bool

    @property
    def name(self) -> str:
        """As the table calls it."""
        return str(self.precision).removeprefix("torch.") + ", compiled" * self.is_compiled


def build_renderers(
    generator: Generator,
    batch: int,
    dtype: torch.dtype = torch.float32,
    variants: Sequence[Variant] = (),
) -> dict[str, Renderer]:
    """Our form, as loaded teachers have it (channels-last), the reference's, as the original has it
    (contiguous), and variants of ours; each returns image and pooled features of one batch.
    """
    inputs = draw_inputs(generator, SAMPLING, np.arange(batch))
    device = generator.mapping.w_avg.device
    z = inputs.z.to(device, dtype)
    maps = [map_.to(device, dtype) for map_ in inputs.noise if isinstance(map_, Tensor)]

    def ours(variant: Variant) -> Renderer:
        network = copy.deepcopy(generator)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.set_precision(variant.precision)
        forward = torch.compile(network) if variant.is_compiled else network

        @torch.no_grad()
        def render() -> tuple[Tensor, Tensor]:
            with captured(network, network.blocks) as features:
                image = forward(z, maps).image
            return image, pool_features(features)

        return render

    @torch.no_grad()
    def reference() -> tuple[Tensor, Tensor]:
        image, features = render_reference(generator, z, maps)
        return image, pool_features(features)

    plain = {OURS: ours(Variant(torch.float32, False)), REFERENCE: reference}
    return plain | {variant.name: ours(variant) for variant in variants}


def check_equal(renderers: dict[str, Renderer]) -> None:
    """Raise ValueError if the two forms differ by more than `TOLERANCE` in full float32."""
    with full_float32():
        pairs = zip(renderers[OURS](), renderers[REFERENCE](), strict=True)
        difference = max(relative_difference(first, second) for first, second in pairs)
    if not difference <= TOLERANCE:
        raise ValueError(f"the two forms differ by {difference:.2g} (relative), above {TOLERANCE}")


def count_gflop(render: Renderer, batch: int) -> float:
    """GFLOP per image of convolutions and matrix products, two per multiply-add."""
    return count_work(render).total / batch / 1e9


def time_other_parts(generator: Generator, batch: int, repeats: int) -> dict[str, float]:
    """Median seconds of drawing latents and noise, and of writing the tars, for `batch` samples."""
    arch = generator.arch
    schemas = pool_schemas(blocks_of(arch), arch.resolution, arch.w_dim)
    columns = {name: random_columns(schema, range(batch)) for name, schema in schemas.items()}

    def write() -> None:
        for name, schema in schemas.items():
            write_shard(Folder.at(folder) / name, shard_name(0), schema, 0, [columns[name]])

    with tempfile.TemporaryDirectory() as folder:
        tasks = {
            "draw latents and noise (CPU)": lambda: draw_inputs(
                generator, SAMPLING, np.arange(batch)
            ),
            "write the tars (CPU, disk)": write,
        }
        return interleave(tasks, repeats, torch.device("cpu"))


def benchmark(
    arch: StyleGAN2Architecture, batch: int, repeats: int, device: torch.device
) -> ResultTable:
    """Check that both forms agree, then time them turn by turn, and the other parts after them."""
    generator = build_random_generator(arch, device)
    renderers = build_renderers(generator, batch)
    check_equal(renderers)
    seconds = interleave(renderers, repeats, device)
    others = time_other_parts(generator, batch, repeats)
    seconds |= others
    rates = {name: batch / value for name, value in seconds.items()}
    done = {name: rates[name] * count_gflop(task, batch) for name, task in renderers.items()}
    rows = [
        *against_rivals("render and pool", "images/s", {name: rates[name] for name in renderers}),
        *against_rivals("arithmetic done", "GFLOP/s", done),
        *(row for name in others for row in against_rivals(name, "images/s", {OURS: rates[name]})),
    ]
    size = f"{arch.resolution} px, channel base {arch.channel_base}, max {arch.channel_max}"
    return tabulate_ratios(f"render, {size}, batch {batch}", device, rows)


def main() -> None:
    """Run the command line."""
    parser = common_parser("Teacher rendering against StyleGAN2-ADA's own formulation.")
    parser.set_defaults(threads=1)  # `make generate` renders every shard on one CPU thread
    arguments = parser.parse_args()
    config, device = prepare(arguments)
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    arch = replace(arch, conv_clamp=None, num_half_blocks=0)
    usual = _CIFAR_BATCH if arguments.cifar else config.generate.render_batch
    benchmark(arch, arguments.batch or usual, arguments.repeats, device).show()


if __name__ == "__main__":
    main()
