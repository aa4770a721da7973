"""The networks against stored outputs of the reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.interface import NoiseMode
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.stylegan2 import Generator, SynthesisLayer

GOLDEN = Path(__file__).parents[2] / "golden" / "stylegan2ada-cifar-tiny.pkl"
GOLDEN_ARCHITECTURE = StyleGAN2Architecture(
    resolution=32,
    z_dim=24,
    w_dim=24,
    num_mapping_layers=2,
    channel_base=512,
    channel_max=20,
    conv_clamp=256,
    num_half_blocks=3,
)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    with np.load(GOLDEN.with_suffix(".npz")) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def golden_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "teacher"
    import_teacher(GOLDEN, folder)
    return folder


@pytest.fixture(scope="module")
def golden_generator(golden_folder: Path) -> Generator:
    generator = load_generator(golden_folder)
    assert isinstance(generator, Generator)
    assert generator.arch == GOLDEN_ARCHITECTURE
    return generator


@pytest.fixture(scope="module")
def golden_discriminator(golden_folder: Path) -> Discriminator:
    return load_discriminator(golden_folder)


def block_features(generator: Generator, z: Tensor) -> dict[str, Tensor]:
    with captured(generator, generator.blocks) as features:
        generator(z, "const")
    return features


def assert_golden(found: Tensor, wanted: Tensor) -> None:
    """Both sides are float32; folded filters and demodulated outputs change the order of sums."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_mapping_golden_latents_give_the_stored_ws(
    golden_generator: Generator, expected: dict[str, Tensor]
) -> None:
    assert_golden(golden_generator.mapping(expected["z"]), expected["ws"])


def test_mapping_golden_latents_truncated_give_the_stored_ws(
    golden_generator: Generator, expected: dict[str, Tensor]
) -> None:
    ws = golden_generator.mapping(expected["z"], truncation_psi=0.7)
    assert_golden(ws, expected["ws_truncated_psi_0_7"])


@pytest.mark.parametrize(
    ("noise", "name"), [("const", "image_const_noise"), ("none", "image_no_noise")]
)
def test_generator_golden_latents_give_the_stored_images(
    golden_generator: Generator, expected: dict[str, Tensor], noise: NoiseMode, name: str
) -> None:
    assert_golden(golden_generator(expected["z"], noise).image, expected[name])


def test_generator_golden_latents_give_the_stored_pooled_features(
    golden_generator: Generator, expected: dict[str, Tensor]
) -> None:
    features = block_features(golden_generator, expected["z"])
    assert list(features) == [f"synthesis.b{r}" for r in (4, 8, 16, 32)]
    for name, block in features.items():
        assert_golden(block.mean((2, 3)), expected[f"pooled.{name}"])
    stored = [expected[f"pooled.{name}"] for name in features]
    assert_golden(pool_features(features), torch.cat(stored, 1))


def test_generator_stored_maps_given_as_noise_equal_const_noise(
    golden_generator: Generator, expected: dict[str, Tensor]
) -> None:
    maps = [
        layer.noise_const[None, None]
        for layer in golden_generator.modules()
        if isinstance(layer, SynthesisLayer)
    ]
    resolutions = golden_generator.synthesis.noise_resolutions
    assert [len(map_[0, 0]) for map_ in maps] == resolutions
    found = golden_generator(expected["z"], maps)
    assert_golden(found.image, expected["image_const_noise"])


def test_generator_wrong_number_of_noise_maps_is_refused(golden_generator: Generator) -> None:
    with pytest.raises(ValueError, match="noise: expected 7 maps, got 1"):
        golden_generator(torch.zeros(1, 24), [torch.zeros(1, 1, 4, 4)])


def test_discriminator_golden_images_give_the_stored_logits_and_features(
    golden_discriminator: Discriminator, expected: dict[str, Tensor]
) -> None:
    images = expected["image_const_noise"]
    assert_golden(golden_discriminator(images), expected["logits"])
    with captured(golden_discriminator, golden_discriminator.blocks) as found:
        golden_discriminator(images)
    for name in ("b32", "b16", "b8"):
        assert_golden(found[name].mean((2, 3)), expected[f"discriminator.{name}"])


def test_architecture_widths_and_ws_follow_the_papers_formulas() -> None:
    arch = StyleGAN2Architecture(32, 512, 512, 2, 32768, 512)
    assert arch.block_resolutions == [4, 8, 16, 32]
    assert [arch.num_channels(r) for r in (4, 32, 64, 128)] == [512, 512, 512, 256]
    assert arch.num_ws == 8


@pytest.mark.parametrize("resolution", [4, 12, 33])
def test_architecture_impossible_resolution_is_refused(resolution: int) -> None:
    with pytest.raises(ValueError, match="resolution"):
        StyleGAN2Architecture(resolution, 8, 8, 2, 64, 8)
