"""DCGANs without a JSON: the reference's numbers, and what else such files look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError
from tests.support.ordinary_dcgan import FIRST, Layer, OrdinaryDCGAN, small_dcgan
from tests.support.state_files import State, prefixed, save_state

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERANCE = 1e-4
"""Of the largest magnitude: float32 against the reference's, with sums in another order."""


class OrdinaryDiscriminator(nn.Module):
    """As in every tutorial, for images of `side` px."""

    def __init__(self, side: int, channels: int = 3) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        width = 4
        while side > 4:
            modules.append(nn.Conv2d(channels, width, 4, 2, 1, bias=False))
            if len(modules) > 2:
                modules.append(nn.BatchNorm2d(width))
            modules.append(nn.LeakyReLU(0.2, inplace=True))
            side, channels, width = side // 2, width, width + 2
        modules += [nn.Conv2d(channels, 1, 4, bias=False), nn.Sigmoid()]
        self.main = nn.Sequential(*modules)
        self.eval()


def assert_images(folder: Path, module: OrdinaryDCGAN) -> None:
    z = torch.randn(3, module.z_dim, generator=torch.Generator().manual_seed(1))
    found = load_generator(folder / "teacher")(z).image
    torch.testing.assert_close(found, module.outputs(z)[0], rtol=1e-4, atol=1e-5)


def import_content(folder: Path, content: Any, **options: Any) -> TeacherInfo:
    torch.save(content, folder / "netG.pt")
    return import_teacher(folder / "netG.pt", folder / "teacher", **options)


@pytest.mark.parametrize("name", ["dcgan-examples-tiny", "dcgan-parallel-tiny"])
@pytest.mark.parametrize("way", ["folder", "files"])
def test_import_dcgan_golden_gives_the_stored_arrays(name: str, way: str, tmp_path: Path) -> None:
    if way == "folder":
        info = import_teacher(GOLDEN / name, tmp_path)
    else:
        (file,) = (GOLDEN / name).glob("netG*")
        (judge,) = (GOLDEN / name).glob("netD*")
        info = import_teacher(file, tmp_path, discriminator=judge)
    wanted = dict(np.load(GOLDEN / f"{name}.npz"))
    found = inspect_latents(tmp_path, wanted["z"])
    found["probability"] = 1 / (1 + np.exp(-found["logits"][:, 0]))
    assert {f"pooled.{block}" for block in info.blocks} == {n for n in wanted if "pooled" in n}
    for key, array in wanted.items():
        assert found[key].shape == array.shape, key
        assert np.abs(found[key] - array).max() <= TOLERANCE * np.abs(array).max(), key


def test_import_dcgan_folder_of_several_epochs_takes_the_last_of_each(tmp_path: Path) -> None:
    modules = {epoch: OrdinaryDCGAN(5, [Layer(4 + epoch, **FIRST), Layer(3)]) for epoch in (2, 10)}
    for epoch, module in modules.items():
        torch.save(module.state_dict(), tmp_path / f"netG_epoch_{epoch}.pth")
        torch.save(OrdinaryDiscriminator(8).state_dict(), tmp_path / f"netD_epoch_{epoch}.pth")
    info = import_teacher(tmp_path, tmp_path / "teacher")
    assert info.origin["weights"] == "netG_epoch_10.pth"
    assert {n for n in info.origin if n.endswith(".pth_sha256")} == {
        "netG_epoch_10.pth_sha256",
        "netD_epoch_10.pth_sha256",
    }
    assert_images(tmp_path, modules[10])


FILES: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "parallel": lambda state: prefixed("module.", state),
    "with-epoch": lambda state: {"epoch": 3, "generator": state},
    "deep": lambda state: {"a": {"b": {"netG": state}}, "optimizer": {"lr": 0.1}},
    "flat-of-both": lambda state: (
        prefixed("generator.", state)
        | prefixed("discriminator.", dict(OrdinaryDiscriminator(8).state_dict()))
    ),
    "lightning": lambda state: {
        "state_dict": prefixed("netG.", state)
        | prefixed("netD.", dict(OrdinaryDiscriminator(8).state_dict()))
    },
    "averaged-beside": lambda state: {
        "netG": {name: value * 0 for name, value in state.items()},
        "netG_ema": state,
    },
}


@pytest.mark.parametrize("name", FILES)
def test_import_dcgan_is_found_within_what_a_file_holds(name: str, tmp_path: Path) -> None:
    module = OrdinaryDCGAN(7, [Layer(6, **FIRST), Layer(3)])
    info = import_content(tmp_path, FILES[name](dict(module.state_dict())))
    assert_images(tmp_path, module)
    assert info.blocks == ("main.2",)
    assert (info.discriminator is not None) == (name in ("flat-of-both", "lightning"))
    assert info.origin["is_averaged"] is (True if "averaged" in name else None)
    assert "strides" in info.origin["notes"][0]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_norm", [True, False])
def test_import_dcgan_of_any_depth_and_grey_is_recognised(
    has_norm: bool, has_bias: bool, suffix: str, tmp_path: Path
) -> None:
    layers = [Layer(9, **FIRST), *(Layer(width) for width in (8, 7, 6, 5)), Layer(1)]
    module = OrdinaryDCGAN(4, layers, has_bias=has_bias, has_norm=has_norm)
    file = save_state(dict(module.state_dict()), tmp_path / f"netG{suffix}")
    info = import_teacher(file, tmp_path / "teacher")
    assert_images(tmp_path, module)
    step = 3 if has_norm else 2
    assert info.blocks == tuple(f"main.{step * index + step - 1}" for index in range(5))
    assert (info.generator.resolution, info.generator.image_channels) == (128, 1)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old"])
def test_import_dcgan_whole_module_says_its_strides_itself(is_zip: bool, tmp_path: Path) -> None:
    layers = [Layer(6, 7, 1, 0), Layer(5, 5, 1, 2), Layer(4, 3, 2, 1, 1), Layer(1, 4)]
    module = OrdinaryDCGAN(7, layers)
    torch.save(module, tmp_path / "netG.pt", _use_new_zipfile_serialization=is_zip)
    info = import_teacher(tmp_path / "netG.pt", tmp_path / "teacher")
    assert_images(tmp_path, module)
    assert not info.origin["notes"]


@pytest.mark.parametrize(
    ("position", "other", "mention"),
    [
        (2, nn.ELU(), "main.2: a ELU"),
        (1, nn.BatchNorm2d(6, eps=1e-3), "main.1: a BatchNorm2d"),
        (0, nn.ConvTranspose2d(7, 6, 4, dilation=2, bias=False), "main.0: a ConvTranspose2d"),
    ],
    ids=["activation", "eps", "dilation"],
)
def test_import_dcgan_whole_module_that_computes_otherwise_is_refused(
    position: int, other: nn.Module, mention: str, tmp_path: Path
) -> None:
    module = small_dcgan()
    module.main[position] = other
    with pytest.raises(UserError) as raised:
        import_content(tmp_path, module)
    assert mention in str(raised.value)
    assert not (tmp_path / "teacher").exists()


def test_import_dcgan_with_transparency_says_that_samples_lose_it(tmp_path: Path) -> None:
    module = OrdinaryDCGAN(5, [Layer(6, **FIRST), Layer(5), Layer(4)])
    judge = save_state(dict(OrdinaryDiscriminator(16, 4).state_dict()), tmp_path / "netD.pt")
    info = import_content(tmp_path, module.state_dict(), discriminator=judge)
    assert_images(tmp_path, module)
    assert info.discriminator is not None
    assert info.discriminator.image_channels == info.generator.image_channels == 4
    assert "alpha channel" in info.origin["notes"][-1]


def test_import_dcgan_discriminator_of_another_size_is_refused(tmp_path: Path) -> None:
    judge = save_state(dict(OrdinaryDiscriminator(32).state_dict()), tmp_path / "netD.pt")
    with pytest.raises(UserError, match=r"netD\.pt.*32 px.*16 px"):
        import_content(tmp_path, small_dcgan().state_dict(), discriminator=judge)
    assert not (tmp_path / "teacher").exists()


def test_import_dcgan_discriminator_beside_a_json_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "dcgan.json").write_text('{"family": "dcgan"}')
    judge = save_state(dict(OrdinaryDiscriminator(16).state_dict()), tmp_path / "netD.pt")
    info = import_content(
        tmp_path,
        small_dcgan().state_dict(),
        architecture=tmp_path / "dcgan.json",
        discriminator=judge,
    )
    assert info.discriminator is not None
    assert info.blocks == ("block0", "block1"), "as pools rendered before are keyed"
    assert_images(tmp_path, small_dcgan())


def test_import_dcgan_of_odd_kernels_asks_for_strides(tmp_path: Path) -> None:
    module = OrdinaryDCGAN(7, [Layer(6, **FIRST), Layer(3, 5, 2, 2, 1)])
    with pytest.raises(UserError, match=r"main\.3: kernel 5.*--architecture"):
        import_content(tmp_path, module.state_dict())


@pytest.mark.parametrize("beside", ["fc.weight", "head.0.weight"])
def test_import_dcgan_beside_unknown_tensors_is_not_taken_for_the_whole(
    beside: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="known layout"):
        import_content(tmp_path, dict(small_dcgan().state_dict()) | {beside: torch.zeros(7, 7)})


def test_import_dcgan_layers_named_one_by_one_have_features_of_our_naming(tmp_path: Path) -> None:
    state = small_dcgan().state_dict()
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3"}
    renamed = {
        f"{names[name.split('.')[1]]}.{name.split('.')[2]}": value for name, value in state.items()
    }
    info = import_content(tmp_path, renamed)
    assert info.blocks == ("bn1_activation", "bn2_activation")
    assert_images(tmp_path, small_dcgan())


def test_import_dcgan_beside_its_discriminator_names_it(tmp_path: Path) -> None:
    torch.save(OrdinaryDiscriminator(16).state_dict(), tmp_path / "netD.pt")
    info = import_content(tmp_path, small_dcgan().state_dict())
    assert info.discriminator is None
    assert "netD.pt" in info.origin["notes"][-1]


def test_import_folder_of_nothing_known_asks_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    torch.save({"a": 1}, tmp_path / "folder" / "network.pt")
    with pytest.raises(UserError, match=r"network\.pt.*Name one of its files"):
        import_teacher(tmp_path / "folder", tmp_path / "teacher")


def test_import_key_that_steers_a_terminal_is_not_shown_as_it_is(tmp_path: Path) -> None:
    content = {"\x1b[31mgenerator": small_dcgan().state_dict()}
    info = import_content(tmp_path, content)
    assert info.origin["weights"] == "\\x1b[31mgenerator"
