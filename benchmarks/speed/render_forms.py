"""Rendering by a loaded teacher against the plain form of its equations, turn by turn.

A turn is latents -> image and block features -> pooled features. Both forms compute on the same
weights, and are first shown to give equal results. Neighbours: `render_stylegan3.py` and
`render_biggan.py` have networks and plain forms; `render.py` does it for StyleGAN2, with more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    interleave,
    tabulate_ratios,
)
from benchmarks.speed.render import REFERENCE, Renderer, check_equal
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.interface import TeacherGenerator


def build_forms(
    generator: TeacherGenerator,
    z: Tensor,
    labels: Tensor | None,
    plain: Callable[[], tuple[Tensor, Mapping[str, Tensor]]],
) -> dict[str, Renderer]:
    """Our form and the plain one; each returns image and pooled features of one batch."""

    @torch.no_grad()
    def ours() -> tuple[Tensor, Tensor]:
        with captured(generator.feature_root, generator.blocks) as features:
            image = generator(z, labels=labels).image
        return image, pool_features(features)

    @torch.no_grad()
    def reference() -> tuple[Tensor, Tensor]:
        image, features = plain()
        return image, pool_features(features)

    return {OURS: ours, REFERENCE: reference}


def compare(
    networks: Iterable[tuple[str, int, dict[str, Renderer]]], repeats: int, device: torch.device
) -> ResultTable:
    """Check that both forms of every network (name, batch, forms) agree, then time them."""
    rows: list[tuple[TableCell, ...]] = []
    for name, batch, forms in networks:
        check_equal(forms)
        seconds = interleave(forms, repeats, device)
        rates = {form: batch / value for form, value in seconds.items()}
        rows += against_rivals(f"{name}, batch {batch}", "images/s", rates)
    return tabulate_ratios("render and pool", device, rows)


def forms_parser(description: str) -> argparse.ArgumentParser:
    """The common options, on one thread: `make generate` renders every shard on one CPU thread."""
    parser = common_parser(description)
    parser.set_defaults(threads=1)
    return parser
