"""Files that are no DCGAN, or not the one that their JSON tells, by the names in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shards.errors import UserError
from tests.support.ordinary_dcgan import small_dcgan
from tests.support.state_files import (
    DCGAN,
    State,
    assert_refused,
    import_state,
    prefixed,
    save_state,
    with_tensor,
    without,
)


@pytest.mark.parametrize(
    ("said", "mention"),
    [
        ({"strides": [1, 2]}, "strides"),
        ({"strides": [1, 2, 2, 2]}, "strides"),
        ({"strides": []}, "strides"),
        ({"strides": 2}, "strides"),
        ({"strides": "122"}, "strides"),
        ({"strides": [1, 2, 2.0]}, "strides"),
        ({"strides": [1, 2, True]}, "strides"),
        ({"paddings": [0, 1]}, "paddings"),
        ({"output_paddings": [0, 0, 0, 0]}, "output_paddings"),
        ({"strides": [1, 2, 0]}, "stride"),
        ({"strides": [1, 2, -2]}, "stride"),
        ({"strides": [1, 2, 10**30]}, "stride"),
        ({"paddings": [0, -1, 1]}, "padding"),
        ({"paddings": [0, 1, 10**30]}, "padding"),
        ({"paddings": [0, 9, 1]}, "padding"),
        ({"output_paddings": [0, 0, 2]}, "output_padding"),
        ({"output_paddings": [0, 0, -1]}, "output_padding"),
        ({"kernels": [4, 4, 4]}, "kernels"),
        ({"stride": [1, 2, 2]}, "stride"),
        ({"z_dim": 7}, "z_dim"),
    ],
    ids=str,
)
def test_import_dcgan_json_that_cannot_be_names_the_field(
    said: dict[str, Any], mention: str, tmp_path: Path
) -> None:
    file = save_state(small_dcgan().state_dict(), tmp_path / "netG.pt")
    assert_refused(tmp_path, file, DCGAN | said, mention)


NOT_DCGAN: dict[str, Callable[[State], State]] = {
    "linear-layers": lambda _: nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)
    ).state_dict(),
    "one-linear-layer": lambda _: nn.Linear(4, 3).state_dict(),
    "one-layer": lambda _: nn.ConvTranspose2d(4, 3, 4).state_dict(),
    "three-dimensional": lambda _: nn.Sequential(
        nn.ConvTranspose3d(4, 3, 4), nn.ConvTranspose3d(3, 3, 4)
    ).state_dict(),
    "linear-in-front": lambda state: {"fc.weight": torch.zeros(7, 7), **state},
    "linear-behind": with_tensor("fc.weight", torch.zeros(7, 7)),
    "norm-in-front": lambda state: {
        "norm.weight": torch.ones(7),
        "norm.bias": torch.zeros(7),
        "norm.running_mean": torch.zeros(7),
        "norm.running_var": torch.ones(7),
        **state,
    },
    "norm-without-statistics": without("running_mean", "running_var", "num_batches_tracked"),
    "norm-without-scale": without("1.weight", "1.bias"),
    "channels-do-not-match": with_tensor("main.3.weight", torch.zeros(4, 5, 4, 4)),
    "norm-does-not-match": with_tensor("main.1.running_mean", torch.zeros(5)),
    "kernel-not-square": with_tensor("main.3.weight", torch.zeros(6, 5, 4, 2)),
    "bias-does-not-match": with_tensor("main.3.bias", torch.zeros(6)),
    "not-finite": with_tensor("main.3.weight", torch.full((6, 5, 4, 4), torch.nan)),
    "not-finite-statistics": with_tensor("main.1.running_var", torch.full((6,), torch.inf)),
    "not-finite-in-float32": with_tensor(
        "main.3.weight", torch.full((6, 5, 4, 4), 1e300, dtype=torch.float64)
    ),
    "scalar-beside": with_tensor("steps", torch.tensor(3)),
    "nothing": lambda _: {},
    "no-tensors": lambda _: {"epoch": 3, "name": "netG"},
    "a-tensor": lambda _: torch.zeros(3),  # type: ignore[arg-type, return-value]
    "a-list": lambda state: list(state.values()),  # type: ignore[arg-type, return-value]
}


@pytest.mark.parametrize("name", NOT_DCGAN)
def test_import_dcgan_state_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    state = dict(small_dcgan().state_dict())
    file = tmp_path / "netG.pt"
    torch.save(NOT_DCGAN[name](state), file)
    assert_refused(tmp_path, file, DCGAN)


def test_import_dcgan_with_two_norms_after_a_layer_is_refused(tmp_path: Path) -> None:
    """There is a place for one only: leaving the other out would give other images."""
    module = nn.Sequential(
        nn.ConvTranspose2d(7, 6, 4),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.BatchNorm2d(6),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
    )
    file = save_state(module.state_dict(), tmp_path / "netG.pt")
    assert_refused(tmp_path, file, DCGAN)


MISFITS: dict[str, tuple[Callable[[State], State], str]] = {
    "channels": (
        with_tensor("main.3.weight", torch.zeros(4, 5, 4, 4)),
        "main.3.weight is [4, 5, 4, 4], expected [6, 5, 4, 4]",
    ),
    "kernel": (
        with_tensor("main.6.weight", torch.zeros(5, 3, 2, 4)),
        "main.6.weight is [5, 3, 2, 4], expected [5, 3, 4, 4]",
    ),
    "bias": (
        with_tensor("main.0.bias", torch.zeros(5)),
        "main.0.bias is [5], expected [6]",
    ),
    "statistics": (
        with_tensor("main.1.running_mean", torch.zeros(5)),
        "main.1.running_mean is [5], expected [6]",
    ),
    "no-shift": (without("main.4.bias"), "missing main.4.bias"),
    "not-finite": (
        with_tensor("main.3.weight", torch.full((6, 5, 4, 4), torch.nan)),
        "main.3.weight is not finite",
    ),
    "odd-kernel": (with_tensor("main.3.weight", torch.zeros(6, 5, 3, 3)), "main.3: kernel 3"),
    "no-layer": (with_tensor("main.9.weight", torch.zeros(7, 7)), "main.9: neither"),
    "statistics-alone": (without("main.1.weight"), "main.1: has bias"),
}


@pytest.mark.parametrize("prefix", ["", "generator."])
@pytest.mark.parametrize("name", MISFITS)
def test_import_dcgan_misfit_has_the_names_of_the_file(
    name: str, prefix: str, tmp_path: Path
) -> None:
    change, mention = MISFITS[name]
    state = change(dict(small_dcgan().state_dict()))
    file = save_state(prefixed(prefix, state), tmp_path / "netG.pt")
    words = mention.split(" ")
    place = next(index for index, word in enumerate(words) if word.startswith("main."))
    words[place] = prefix + words[place]
    assert_refused(tmp_path, file, DCGAN, f": {' '.join(words)}")


@pytest.mark.parametrize(
    ("said", "mention"),
    [
        ({"strides": [1, 2, 0]}, "main.6: kernel, stride or padding"),
        ({"paddings": [0, 9, 1]}, "main.3: makes images of"),
        ({"output_paddings": [0, 2, 0]}, "main.3: output_padding: must be smaller"),
    ],
    ids=str,
)
def test_import_dcgan_layer_that_cannot_be_has_the_name_of_the_file(
    said: dict[str, Any], mention: str, tmp_path: Path
) -> None:
    file = save_state(small_dcgan().state_dict(), tmp_path / "netG.pt")
    assert_refused(tmp_path, file, DCGAN | said, mention)


def test_import_dcgan_with_a_discriminator_says_that_it_takes_none(tmp_path: Path) -> None:
    file = save_state(small_dcgan().state_dict(), tmp_path / "netG.pt")
    judge = save_state(small_dcgan().state_dict(), tmp_path / "netD.pt")
    with pytest.raises(UserError, match="--discriminator"):
        import_state(tmp_path, file, DCGAN, discriminator=judge)
