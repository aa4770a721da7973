"""Any layer of any teacher is a feature by its name."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.teacher.features import captured, list_features, pool_features, select
from pipeline.teacher.networks.stylegan2 import Generator
from shards.errors import UserError
from tests.support.tiny_shards import ARCHITECTURE, random_generator, teacher_info

LAYERS = ("synthesis.b16.conv0", "synthesis.b4", "synthesis.b8.conv1")


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
