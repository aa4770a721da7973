"""State dicts of DCGANs: images and features as the original makes them, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured
from shards.errors import UserError
from tests.support.ordinary_dcgan import FIRST, SMALL, Layer, OrdinaryDCGAN, small_dcgan
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


@dataclass(frozen=True)
class Case:
    """A DCGAN, and what the JSON has to say of it."""

    name: str
    layers: list[Layer]
    z_dim: int = 7
    has_bias: bool = False
    has_norm: bool = True
    lists: tuple[str, ...] = ()

    def module(self) -> OrdinaryDCGAN:
        return OrdinaryDCGAN(
            self.z_dim, self.layers, has_bias=self.has_bias, has_norm=self.has_norm
        )

    @property
    def said(self) -> dict[str, Any]:
        return DCGAN | {
            name: [getattr(layer, name.removesuffix("s")) for layer in self.layers]
            for name in self.lists
        }


ALL_LISTS = ("strides", "paddings", "output_paddings")
CASES = [
    Case("two-layers", [Layer(6, **FIRST), Layer(3)]),
    Case("three-layers", SMALL),
    Case("five-layers", [Layer(16, **FIRST), Layer(12), Layer(8), Layer(4), Layer(3)], z_dim=20),
    Case(
        "six-layers",
        [Layer(9, **FIRST), Layer(8), Layer(7), Layer(6), Layer(5), Layer(3)],
        z_dim=1,
    ),
    Case("equal-widths", [Layer(4, **FIRST), Layer(4), Layer(4), Layer(4), Layer(4)], z_dim=4),
    Case("wide-and-grey", [Layer(64, **FIRST), Layer(32), Layer(1)], z_dim=100),
    Case("biases", SMALL, has_bias=True),
    Case("no-norms", SMALL, has_norm=False),
    Case(
        "no-norms-but-biases-five-layers",
        [Layer(6, **FIRST), Layer(5), Layer(4), Layer(5), Layer(3)],
        has_norm=False,
        has_bias=True,
    ),
    Case("said-as-usual", SMALL, lists=ALL_LISTS),
    Case(
        "kernels-3-and-5",
        [
            Layer(6, 4, 1, 0),
            Layer(5, 3, 2, 1, 1),
            Layer(4, 5, 2, 2, 1),
            Layer(3, 3, 1, 1),
        ],
        lists=ALL_LISTS,
    ),
    Case(
        "digits-of-28-pixels",
        [Layer(6, 7, 1, 0), Layer(5, 5, 1, 2), Layer(4, 4), Layer(1, 4)],
        lists=("strides", "paddings"),
    ),
    Case("first-kernel-8", [Layer(6, 8, 1, 0), Layer(3, 2, 2, 0)]),
    Case("stride-3", [Layer(6, 4, 1, 0), Layer(3, 5, 3, 1)], lists=("strides",)),
]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_import_dcgan_makes_the_images_and_features_of_the_original(
    case: Case, suffix: str, tmp_path: Path
) -> None:
    module = case.module()
    file = save_state(module.state_dict(), tmp_path / f"netG{suffix}")
    info = import_state(tmp_path, file, case.said)
    generator = load_generator(tmp_path / "teacher")
    z = torch.randn(5, case.z_dim, generator=torch.Generator().manual_seed(1))
    image, features = module.outputs(z)
    with captured(generator.feature_root, generator.blocks) as found:
        output = generator(z)
    # Imported networks are channels-last, where float32 sums run in another order: 1e-5, not bits.
    tolerance = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(output.image, image, **tolerance)
    assert len(info.blocks) == len(features)
    for name, feature in zip(info.blocks, features, strict=True):
        torch.testing.assert_close(found[name], feature, **tolerance)
    assert torch.equal(output.ws, z[:, None])
    sizes = [(feature.shape[1], feature.shape[2]) for feature in features]
    blocks = [feature for feature in info.features if feature.is_block]
    assert [(block.num_channels, block.resolution) for block in blocks] == sizes
    arch = info.generator
    assert (arch.resolution, arch.image_channels) == (image.shape[3], image.shape[1])
    assert (arch.z_dim, arch.w_dim, arch.num_classes) == (case.z_dim, case.z_dim, 0)


@pytest.mark.parametrize("prefix", ["generator.", "G_ema."])
def test_import_dcgan_beside_a_discriminator_takes_the_generator(
    prefix: str, tmp_path: Path
) -> None:
    module = small_dcgan()
    content = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    content |= {"discriminator.main.0.weight": torch.zeros(4, 3, 4, 4), "steps": torch.tensor(3)}
    import_state(tmp_path, save_state(content, tmp_path / "both.pt"), DCGAN)
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image, module.outputs(z)[0], rtol=1e-4, atol=1e-5
    )


def test_import_dcgan_in_float16_is_computed_in_float32(tmp_path: Path) -> None:
    module = small_dcgan()
    content = {
        name: value.half() if value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }
    import_state(tmp_path, save_state(content, tmp_path / "half.pt"), DCGAN)
    module.load_state_dict(content)
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image, module.outputs(z)[0], rtol=1e-4, atol=1e-5
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


def test_import_dcgan_with_a_norm_after_the_last_layer_computes_it(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.ConvTranspose2d(7, 6, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 3, 4, 2, 1),
        nn.BatchNorm2d(3),
        nn.Tanh(),
    ).eval()
    norm = module[3]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.running_mean, norm.running_var = torch.rand(3), torch.rand(3) + 0.5
    import_state(tmp_path, save_state(module.state_dict(), tmp_path / "netG.pt"), DCGAN)
    z = torch.randn(2, 7)
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z).image,
        module(z[:, :, None, None]),
        rtol=1e-4,
        atol=1e-5,
    )


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
