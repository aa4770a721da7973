"""State dicts of DCGANs: images and features as the original makes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured
from tests.support.ordinary_dcgan import FIRST, SMALL, Layer, OrdinaryDCGAN, small_dcgan
from tests.support.state_files import (
    DCGAN,
    import_state,
    save_state,
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
