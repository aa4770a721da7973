"""`python -m benchmarks.speed.render`: a teacher's rendering, against StyleGAN2-ADA's own form.

A turn is what rendering computes for one batch: latents -> image and block features -> pooled
features, both forms on the same weights and first shown to give equal results in full float32. The
other two parts of `make generate` – drawing latents and noise, writing the tars – are timed alone,
to say which of the three binds, and the turn itself is taken apart: what share of it the
convolutions take, and how their rate compares with a matrix product's.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import (
    BenchmarkRun,
    Figure,
    common_parser,
    full_float32,
    interleave,
    prepare,
    publish,
)
from benchmarks.random_shards import feature_set, random_columns
from benchmarks.speed.ceilings import measure_matrix_product
from benchmarks.speed.operations import count_work
from benchmarks.speed.profiling import profile_operators
from benchmarks.speed.reference_stylegan2 import relative_difference, render_reference
from pipeline.generate.plan import PoolRecipe
from pipeline.generate.render import DTYPES
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architecture import StyleGAN2Architecture
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.networks.stylegan2 import Generator
from shards.manifest import shard_name
from shards.pool import IMAGES
from shards.schema import feature_schema, synthetic_schema
from shards.storage import Folder
from shards.writer import write_shard

TOLERANCE = 1e-4
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
    inputs = draw_inputs(generator, _recipe(batch).sampling, np.arange(batch))
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

    plain = {"ours": ours(Variant(torch.float32, False)), "reference": reference}
    return plain | {variant.name: ours(variant) for variant in variants}


def check_equal(renderers: dict[str, Renderer]) -> float:
    """Largest relative difference of the two forms in full float32.

    Raises:
        ValueError: if it exceeds `TOLERANCE`.
    """
    with full_float32():
        pairs = zip(renderers["ours"](), renderers["reference"](), strict=True)
        difference = max(relative_difference(first, second) for first, second in pairs)
    if not difference <= TOLERANCE:
        raise ValueError(f"the two forms differ by {difference:.2g} (relative), above {TOLERANCE}")
    return difference


def count_gflop(render: Renderer, batch: int) -> float:
    """GFLOP per image of convolutions and matrix products, two per multiply-add."""
    return count_work(render).total / batch / 1e9


def share_out_time(render: Renderer, device: torch.device) -> dict[str, float]:
    """Shares of one batch's time: the convolutions of the network, the FIR, and everything else."""
    render()
    shares = {"convolutions": 0.0, "FIR": 0.0, "everything else": 0.0}
    for operator in profile_operators(render, device, by_shape=True):
        is_fir = any(shape[1:] == (1, 4, 4) for shape in operator.shapes if len(shape) == 4)
        kind = "FIR" if is_fir else "convolutions" if "conv" in operator.name else "everything else"
        shares[kind] += operator.seconds
    total = sum(shares.values())
    return {kind: value / total for kind, value in shares.items()}


def time_other_parts(generator: Generator, batch: int, repeats: int) -> dict[str, float]:
    """Median seconds of drawing latents and noise, and of writing the tars, for `batch` samples."""
    arch = generator.arch
    blocks = [(f"synthesis.b{r}", arch.num_channels(r)) for r in arch.block_resolutions]
    schemas = {
        IMAGES: synthetic_schema(arch.resolution, arch.w_dim),
        feature_set(blocks): feature_schema(blocks),
    }
    columns = {name: random_columns(schema, range(batch)) for name, schema in schemas.items()}
    with tempfile.TemporaryDirectory() as folder:

        def write() -> None:
            for name, schema in schemas.items():
                write_shard(Folder.at(folder) / name, shard_name(0), schema, 0, [columns[name]])

        return interleave(
            {
                "draw": lambda: draw_inputs(generator, _recipe(batch).sampling, np.arange(batch)),
                "write": write,
            },
            repeats,
            torch.device("cpu"),
        )


def benchmark(
    arch: StyleGAN2Architecture,
    batch: int,
    repeats: int,
    device: torch.device,
    variants: Sequence[Variant] = (),
) -> BenchmarkRun:
    """Check that both forms agree, then time them turn by turn."""
    generator = build_random_generator(arch, device)
    renderers = build_renderers(generator, batch, variants=variants)
    difference = check_equal(renderers)
    gflop = {name: count_gflop(renderers[name], batch) for name in ("ours", "reference")}
    shares = share_out_time(renderers["ours"], device)
    product = measure_matrix_product(repeats, device) / 1e9
    seconds = interleave(renderers, repeats, device)
    parts = time_other_parts(generator, batch, repeats)
    rate = {name: batch / value for name, value in {**seconds, **parts}.items()}
    figures = [
        Figure("render and pool", rate["ours"], "images/s", "reference form", rate["reference"]),
        Figure(
            "arithmetic done",
            rate["ours"] * gflop["ours"],
            "GFLOP/s",
            "reference form",
            rate["reference"] * gflop["reference"],
        ),
        Figure("of it, a matrix product of 2048", product, "GFLOP/s"),
        *(
            Figure(f"our form, {v.name}", rate[v.name], "images/s", "float32", rate["ours"])
            for v in variants
        ),
        *(Figure(f"share of time: {kind}", 100 * part, "%") for kind, part in shares.items()),
        Figure("draw latents and noise (CPU)", rate["draw"], "images/s"),
        Figure("write the tars (CPU, disk)", rate["write"], "images/s"),
    ]
    details = {
        "size": f"{arch.resolution} px, channel base {arch.channel_base}, max {arch.channel_max}",
        "batch": batch,
        "repeats": repeats,
        "largest relative difference": difference,
        "GFLOP per image": gflop,
    }
    return BenchmarkRun("render", device, figures, details)


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("Teacher rendering against StyleGAN2-ADA's own formulation.")
    parser.add_argument("--resolution", type=int, help="pixels (default: the config's)")
    parser.add_argument("--channel-base", type=int, help="channels(r) = min(base // r, max)")
    parser.add_argument("--channel-max", type=int, help="widest block")
    parser.add_argument(
        "--half", choices=("bfloat16", "float16"), help="also in this precision, in four blocks"
    )
    parser.add_argument("--compile", action="store_true", help="also through torch.compile")
    parser.set_defaults(threads=1)  # `make generate` renders every shard on one CPU thread
    arguments = parser.parse_args(argv)
    config, device = prepare(arguments)
    batch = arguments.batch or (16 if arguments.cifar else config.generate.render_batch)
    arch = _architecture(config.teacher.model_dump(), config.real.resolution, arguments)
    precisions = [torch.float32] + ([DTYPES[arguments.half]] if arguments.half else [])
    variants = [Variant(precisions[-1], False)] if arguments.half else []
    if arguments.compile:
        variants += [Variant(precision, True) for precision in precisions]
    run = benchmark(arch, batch, arguments.repeats, device, variants)
    publish(run, arguments.json, started)
    return run


def _architecture(
    teacher: dict[str, Any], resolution: int, arguments: argparse.Namespace
) -> StyleGAN2Architecture:
    names = ("z_dim", "w_dim", "num_mapping_layers", "channel_base", "channel_max")
    sizes: dict[str, Any] = {"resolution": resolution, **{name: teacher[name] for name in names}}
    for name in ("resolution", "channel_base", "channel_max"):
        if getattr(arguments, name) is not None:
            sizes[name] = getattr(arguments, name)
    if arguments.half:
        sizes |= {"num_half_blocks": 4, "conv_clamp": 256.0}
    return StyleGAN2Architecture(**sizes)


def _recipe(batch: int) -> PoolRecipe:
    """The recipe of `batch` samples with random noise; which teacher does not matter here."""
    return PoolRecipe(
        generator_sha256="",
        architecture={},
        seed=0,
        truncation_psi=1.0,
        truncation_cutoff=None,
        noise="random",
        samples_per_shard=batch,
        render_batch=batch,
    )


if __name__ == "__main__":
    main()
