"""A generator of one's own code, saved, loaded and refused."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.teacher.architectures.module import ModuleArchitecture
from pipeline.teacher.checkpoint import load_generator, save_teacher
from pipeline.teacher.description import TeacherInfo, read_teacher_info
from pipeline.teacher.features import captured
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.networks.module import wrap_module
from shards.errors import UserError
from tests.support import own_generator
from tests.support.ordinary_dcgan import small_dcgan
from tests.support.tiny_shards import ARCHITECTURE

FACTORY = "own_package.generators:build"


def latents(num: int, width: int = ARCHITECTURE.z_dim, seed: int = 1) -> Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """`own_package.generators`, importable for this test only; returns its file."""
    file = tmp_path / "code" / "own_package" / "generators.py"
    file.parent.mkdir(parents=True)
    (file.parent / "__init__.py").touch()
    shutil.copy(own_generator.__file__, file)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield file
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


def save_own(folder: Path, **arguments: int) -> tuple[nn.Module, TeacherInfo]:
    module = own_generator.build_random(**arguments)
    wrapped = wrap_module(
        module,
        z_dim=6,
        blocks=["first", "second"],
        arguments=arguments,
        num_classes=arguments.get("num_classes", 0),
    )
    return module, save_teacher(folder, wrapped)


def assert_same_images(generator: TeacherGenerator, module: nn.Module, *labels: Tensor) -> None:
    z = latents(4, 6)
    found = generator(z, labels=labels[0] if labels else None)
    # Loaded networks are channels-last, where float32 sums run in another order: 1e-5, not bits.
    torch.testing.assert_close(found.image, module(z, *labels), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.ws, z[:, None])


@pytest.mark.usefixtures("own_code")
def test_own_module_saved_and_loaded_makes_the_same_images(tmp_path: Path) -> None:
    module, info = save_own(tmp_path / "teacher", width=5)
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    assert_same_images(generator, module)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert not any(part.training for part in generator.modules())
    assert generator.arch == ModuleArchitecture(
        resolution=16, z_dim=6, blocks=("first", "second"), arguments={"width": 5}
    )
    assert read_teacher_info(tmp_path / "teacher") == info


@pytest.mark.usefixtures("own_code")
def test_own_module_features_have_the_names_of_its_submodules(tmp_path: Path) -> None:
    module, info = save_own(tmp_path / "teacher", width=5)
    sizes = {feature.name: (feature.num_channels, feature.resolution) for feature in info.features}
    assert sizes == {
        "first": (5, 8),
        "second": (5, 16),
        "first.conv": (5, 8),
        "first.norm": (5, 8),
        "second.conv": (5, 16),
        "second.norm": (5, 16),
        "image": (3, 16),
    }
    assert info.blocks == ("first", "second")
    assert info.select(["second.conv", "first"]) == [("second.conv", 5), ("first", 5)]
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    with captured(generator.feature_root, ["second", "first.conv"]) as found:
        generator(latents(4, 6))
    with captured(module, ["second", "first.conv"]) as wanted:
        module(latents(4, 6))
    for name, feature in wanted.items():
        torch.testing.assert_close(found[name], feature, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("own_code")
def test_own_module_with_classes_takes_labels(tmp_path: Path) -> None:
    module, info = save_own(tmp_path / "teacher", num_classes=3)
    assert info.generator.num_classes == 3
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    assert_same_images(generator, module, torch.eye(3)[[0, 1, 2, 0]])


@pytest.mark.usefixtures("own_code")
def test_own_module_refuses_truncation(tmp_path: Path) -> None:
    save_own(tmp_path / "teacher")
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    with pytest.raises(ValueError, match="truncation_psi"):
        generator(latents(1, 6), truncation_psi=0.5)


@pytest.mark.usefixtures("own_code")
def test_load_generator_own_module_without_a_factory_asks_for_it(tmp_path: Path) -> None:
    save_own(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"teacher\.factory=package\.module:callable"):
        load_generator(tmp_path / "teacher")


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    "factory",
    [
        "nowhere:build",
        "own_package.nowhere:build",
        "own_package.generators:nowhere",
        "own_package.generators:build_nothing",
        "own_package.generators:build_with_a_condition",
        "own_package.generators:NOT_CALLABLE",
        "own_package.generators:Upscale",
        "own_package.generators:latents",
        "own_package:build",
        "own_package.generators",
    ],
)
def test_load_generator_factory_that_makes_no_module_is_named(factory: str, tmp_path: Path) -> None:
    save_own(tmp_path / "teacher", num_classes=0)
    with pytest.raises(UserError) as raised:
        load_generator(tmp_path / "teacher", factory=factory)
    message = str(raised.value)
    assert f"teacher.factory={factory}" in message
    assert "\n" not in message


def test_load_generator_factory_of_another_width_names_the_misfit(
    own_code: Path, tmp_path: Path
) -> None:
    save_own(tmp_path / "teacher", width=5)
    own_code.write_text(own_code.read_text().replace("width, num_classes, side)", "9, 0, side)"))
    with pytest.raises(UserError, match=r"generator\.safetensors") as raised:
        load_generator(tmp_path / "teacher", factory=FACTORY)
    assert "expected" in str(raised.value)


def test_own_module_that_makes_images_of_another_size_says_so(
    own_code: Path, tmp_path: Path
) -> None:
    save_own(tmp_path / "teacher")
    own_code.write_text(own_code.read_text().replace("size=self.side", "size=2 * self.side"))
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    with pytest.raises(ValueError, match=r"\[3, 32, 32\].*\[3, 16, 16\]"):
        generator(latents(2, 6))


class Flat(nn.Module):
    """Makes images that are not square."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 3 * 8 * 4)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.body(z).reshape(-1, 3, 8, 4)
        return image


def test_wrap_module_images_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3, 8, 4\]"):
        wrap_module(Flat(), z_dim=6, blocks=["body"])


@pytest.mark.parametrize("blocks", [["start"], ["third"], ["first", ""], ["first", "first"]])
def test_own_module_block_that_makes_no_map_is_refused_and_nothing_written(
    blocks: list[str], tmp_path: Path
) -> None:
    module = own_generator.build_random()
    with pytest.raises(ValueError, match="block"):
        save_teacher(tmp_path / "teacher", wrap_module(module, z_dim=6, blocks=blocks))
    assert not (tmp_path / "teacher").exists()


def test_own_module_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="blocks"):
        wrap_module(own_generator.build_random(), z_dim=6, blocks=[])


class NamedW(nn.Module):
    """Has a submodule with the name that stands for the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ConvTranspose2d(6, 4, 8)
        self.image = nn.Conv2d(4, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.image(self.w(z[:, :, None, None]))
        return image


def test_own_module_with_a_block_named_like_the_latent_is_refused(tmp_path: Path) -> None:
    """`w` is the latent in `generate.features` and in the shards; it cannot be both."""
    with pytest.raises(ValueError, match="w"):
        save_teacher(tmp_path / "teacher", wrap_module(NamedW(), z_dim=6, blocks=["w"]))


class Tied(nn.Module):
    """Two layers with one weight, as encoders with tied embeddings have."""

    def __init__(self) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(6, 4, 8)
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.second.weight = self.first.weight
        self.image = nn.Conv2d(4, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.image(self.second(self.first(self.grow(z[:, :, None, None]))))
        return image


def test_own_module_with_a_shared_weight_can_be_saved(tmp_path: Path) -> None:
    wrapped = wrap_module(Tied(), z_dim=6, blocks=["first", "second"])
    info = save_teacher(tmp_path / "teacher", wrapped)
    assert info.blocks == ("first", "second")


def build_dcgan() -> nn.Module:
    """As in every tutorial: latents are maps of one pixel."""
    return small_dcgan()


def test_wrap_module_that_takes_latents_as_maps_is_rendered_saved_and_loaded(
    tmp_path: Path,
) -> None:
    module = small_dcgan()
    save_teacher(tmp_path, wrap_module(module, z_dim=7, blocks=["main.2", "main.5"]))
    z = latents(4, 7)
    wanted, features = module.outputs(z)
    loaded = load_generator(tmp_path, f"{__name__}:build_dcgan")
    with captured(loaded.feature_root, loaded.blocks) as found:
        torch.testing.assert_close(loaded(z).image, wanted, rtol=1e-4, atol=1e-5)
    for name, feature in zip(loaded.blocks, features, strict=True):
        torch.testing.assert_close(found[name], feature, rtol=1e-4, atol=1e-5)


def test_wrap_module_that_takes_no_such_latents_says_what_was_tried() -> None:
    with pytest.raises(ValueError, match=r"\[B, 5\].*\[B, 5, 1, 1\]"):
        wrap_module(small_dcgan(), z_dim=5, blocks=["main.2"])
