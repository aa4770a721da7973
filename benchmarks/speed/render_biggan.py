"""`python -m benchmarks.speed.render_biggan`: BigGANs' rendering, against their plain form.

Spectral norms are divided out of the plain form's weights before. Neighbour: `render_forms.py` says
what is compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import ResultTable, prepare
from benchmarks.speed.reference_biggan import (
    Sizes,
    divide_by_norms,
    random_generator,
    render_reference,
)
from benchmarks.speed.reference_biggan_deep import (
    DeepSizes,
    divide_deep_by_norms,
    random_deep_generator,
    render_deep_reference,
)
from benchmarks.speed.render import Renderer
from benchmarks.speed.render_forms import build_forms, compare, forms_parser
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.checkpoint import build_generator
from pipeline.teacher.importing import biggan_deep, biggan_tensors
from pipeline.teacher.spelling import Spelling

SIZES: dict[str, tuple[Sizes | DeepSizes, int]] = {
    "BigGAN 32 px, CIFAR setting": (Sizes((256,) * 4, (8,), z_dim=128, num_classes=10), 16),
    "BigGAN 64 px": (
        Sizes(
            (512, 512, 256, 128, 64), (8,), (2,), z_dim=100, num_classes=10, shared_dim=128,
            is_hierarchical=True,
        ),
        8,
    ),
    "BigGAN 128 px": (
        Sizes(
            (768, 768, 384, 192, 96, 48), (8,), (3,), z_dim=120, num_classes=10, shared_dim=128,
            is_hierarchical=True,
        ),
        4,
    ),
    "BigGAN-deep 64 px": (
        DeepSizes(
            (
                (False, 16, 16), (True, 16, 8), (False, 8, 8), (True, 8, 4), (False, 4, 4),
                (True, 4, 2), (False, 2, 2), (True, 2, 1),
            ),
            attention_at=6, channel_width=64, z_dim=64, num_classes=10,
        ),
        8,
    ),
}  # fmt: skip
"""What is measured, and its batch: settings of the authors at a half or a third of their width."""


def build_renderers(
    sizes: Sizes | DeepSizes, batch: int, device: torch.device
) -> dict[str, Renderer]:
    """Our form, as loaded teachers have it, and the plain one; each returns image and pooled
    features of one batch.
    """
    draws = torch_generator(0, "benchmark/biggan")
    z = torch.randn(batch, sizes.z_dim, generator=draws).to(device)
    classes = torch.randint(sizes.num_classes, (batch,), generator=draws).to(device)
    labels = torch.eye(sizes.num_classes, device=device)[classes]
    if isinstance(sizes, Sizes):
        state = random_generator(sizes)
        ours = build_generator(*biggan_tensors.convert_generator(state, Spelling(), 1e-8, 1e-5)[:2])
        state = _move(divide_by_norms(state, 1e-8), device)
        return build_forms(ours.to(device), z, labels, lambda: render_reference(state, z, classes))
    deep = random_deep_generator(sizes)
    ours = build_generator(*biggan_deep.convert_generator(deep, Spelling(), sizes.config)[:2])
    deep = _move(divide_deep_by_norms(deep), device)
    return build_forms(
        ours.to(device), z, labels, lambda: render_deep_reference(deep, sizes, z, labels)
    )


def _move(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in state.items()}


def benchmark(
    sizes: dict[str, tuple[Sizes | DeepSizes, int]], repeats: int, device: torch.device
) -> ResultTable:
    """Both forms of every network, batch by batch."""
    networks = (
        (name, batch, build_renderers(network, batch, device))
        for name, (network, batch) in sizes.items()
    )
    return compare(networks, repeats, device)


def main() -> None:
    """Run the command line."""
    arguments = forms_parser("BigGANs' rendering against their plain form in torch.").parse_args()
    _, device = prepare(arguments)
    sizes = {
        name: (network, arguments.batch or batch)
        for name, (network, batch) in SIZES.items()
        if "CIFAR" in name or not arguments.cifar
    }
    benchmark(sizes, arguments.repeats, device).show()


if __name__ == "__main__":
    main()
