"""Any layer of any teacher is a feature by its name, and so are those of a module of one's own."""

from __future__ import annotations

import gc
import shutil
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.teacher.architecture import ModuleArchitecture
from pipeline.teacher.checkpoint import load_generator, save_teacher
from pipeline.teacher.description import TeacherInfo, read_teacher_info
from pipeline.teacher.features import captured, list_features, pool_features, select
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.module import wrap_module
from pipeline.teacher.stylegan2 import Generator
from shards.errors import UserError
from tests import own_generator
from tests.tiny_shards import ARCHITECTURE, random_generator, teacher_info

LAYERS = ("synthesis.b16.conv0", "synthesis.b4", "synthesis.b8.conv1")
FACTORY = "own_package.generators:build"


def latents(num: int, width: int = ARCHITECTURE.z_dim, seed: int = 1) -> Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


def test_captured_layer_is_what_the_layer_makes() -> None:
    """`b4.conv1` by hand: the constant, through the layer, with its latent and noise."""
    generator, z = random_generator(), latents(3)
    with captured(generator, ["synthesis.b4.conv1", "synthesis.b4"]) as found:
        ws = generator(z, "const").ws
    block = generator.synthesis.block(4)
    by_hand = block.conv1(block.const.expand(3, -1, -1, -1), ws[:, 0], "const")
    assert torch.equal(found["synthesis.b4.conv1"], by_hand)
    assert torch.equal(found["synthesis.b4"], by_hand), "the block's first output is its map"


def test_captured_layers_do_not_change_the_images() -> None:
    generator, z = random_generator(), latents(3)
    plain = generator(z, "const").image
    with captured(generator, LAYERS):
        assert torch.equal(generator(z, "const").image, plain)


def test_captured_ends_with_its_block() -> None:
    generator = random_generator()
    with captured(generator, LAYERS) as found:
        generator(latents(2), "const")
    kept = dict(found)
    generator(latents(2, seed=2), "const")
    assert found.keys() == set(LAYERS)
    assert all(found[name] is kept[name] for name in LAYERS)


def test_captured_ends_with_an_exception_too() -> None:
    generator = random_generator()
    with pytest.raises(KeyError, match="stop"), captured(generator, LAYERS) as found:
        raise KeyError("stop")
    generator(latents(2), "const")
    assert found == {}


def test_captured_unknown_name_keeps_no_output_alive() -> None:
    """A hook left behind would hold the last batch for as long as the generator lives."""
    generator = random_generator()
    with pytest.raises(AttributeError, match="b32"), captured(generator, ["synthesis.b32"]):
        pass
    with (
        pytest.raises(AttributeError, match="b32"),
        captured(generator, [*LAYERS, "synthesis.b32"]),
    ):
        pass
    with captured(generator, LAYERS[:1]) as found:
        generator(latents(2), "const")
    output = weakref.ref(found.pop(LAYERS[0]))
    gc.collect()
    assert output() is None


def test_captured_within_captured_sees_the_same() -> None:
    generator = random_generator()
    with captured(generator, LAYERS) as outer, captured(generator, LAYERS[:1]) as inner:
        generator(latents(2), "const")
    assert outer.keys() == set(LAYERS)
    assert torch.equal(outer[LAYERS[0]], inner[LAYERS[0]])


def test_list_features_are_the_maps_of_one_rendering() -> None:
    generator = random_generator()
    features = list_features(generator)
    names = [feature.name for feature in features]
    assert names[:3] == generator.blocks
    assert [feature.is_block for feature in features] == [True] * 3 + [False] * (len(names) - 3)
    assert len(set(names)) == len(names)
    expected = {f"synthesis.b{r}.{layer}" for r in (8, 16) for layer in ("conv0", "conv1", "torgb")}
    assert set(names) == {*generator.blocks, *expected, "synthesis.b4.conv1", "synthesis.b4.torgb"}
    with captured(generator, names) as found:
        generator(latents(2))
    for feature in features:
        assert found[feature.name].shape == (2, feature.num_channels, *[feature.resolution] * 2)


def test_select_any_layers_in_the_order_asked_for() -> None:
    info = teacher_info()
    assert info.select([*LAYERS, "w"]) == [
        ("synthesis.b16.conv0", 8),
        ("synthesis.b4", 12),
        ("synthesis.b8.conv1", 12),
        ("w", ARCHITECTURE.w_dim),
    ]
    assert info.select(["w", *reversed(LAYERS)])[0] == ("w", ARCHITECTURE.w_dim)
    assert [name for name, _ in info.select("blocks")] == list(info.blocks)


@pytest.mark.parametrize("name", ["b8", "synthesis", "synthesis.b32", "mapping.fc0", "W", ""])
def test_select_unknown_name_lists_what_there_is(name: str) -> None:
    info = teacher_info()
    with pytest.raises(UserError) as raised:
        info.select(["synthesis.b8", name])
    message = str(raised.value)
    assert repr(name) in message
    assert "generate.features" in message
    for known in ("w", *(feature.name for feature in info.features)):
        assert known in message
    assert "\n" not in message


def test_pool_features_of_selected_layers_are_as_wide_as_select_says() -> None:
    generator, names = random_generator(), [*LAYERS, "w"]
    with captured(generator, LAYERS) as found:
        ws = generator(latents(2), "const").ws
    pooled = pool_features(select(found, ws, names))
    widths = [width for _, width in teacher_info().select(names)]
    parts = pooled.split(widths, 1)
    for part, layer in zip(parts[:-1], LAYERS, strict=True):
        torch.testing.assert_close(part, found[layer].mean((2, 3)))
    assert torch.equal(parts[-1], ws[:, 0])


def test_list_features_conditional_and_residual_generator_has_its_layers() -> None:
    arch = replace(ARCHITECTURE, num_classes=3, skips="resnet")
    names = {feature.name for feature in list_features(Generator(arch).eval())}
    assert {"synthesis.b8.skip", "synthesis.b16.torgb"} <= names
    assert "synthesis.b8.torgb" not in names


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
    assert info.select(["second.conv", "w"]) == [("second.conv", 5), ("w", 6)]
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
def test_own_module_refuses_truncation_and_half_precision(tmp_path: Path) -> None:
    save_own(tmp_path / "teacher")
    generator = load_generator(tmp_path / "teacher", factory=FACTORY)
    with pytest.raises(ValueError, match="truncation_psi"):
        generator(latents(1, 6), truncation_psi=0.5)
    generator.set_precision(torch.float32)
    with pytest.raises(UserError, match=r"generate\.precision"):
        generator.set_precision(torch.float16)


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
