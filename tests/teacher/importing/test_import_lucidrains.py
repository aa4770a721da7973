"""Files of lucidrains' StyleGAN2: golden numbers, attention, transparency, what no file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.teacher.architectures.lucidrains import (
    LucidrainsArchitecture,
    LucidrainsDiscriminatorArchitecture,
)
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import captured, pool
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from pipeline.teacher.networks.lucidrains import LucidrainsGenerator
from pipeline.teacher.networks.lucidrains_discriminator import LucidrainsDiscriminator
from shards.errors import UserError
from tests.support.golden_files import Golden, assert_close, import_golden


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """Which truncates towards the mean that the reference had drawn."""
    golden = import_golden("lucidrains-tiny.pt", tmp_path_factory.mktemp("lucid") / "teacher")
    mean = golden.generator.get_buffer("w_avg")
    wanted = golden.wanted["w_mean_of_2000"][0]
    spread = golden.wanted["w"].std(0)
    assert np.abs(mean.numpy() - wanted).max() < 5 * spread.max() / 2000**0.5
    mean.copy_(torch.from_numpy(wanted))
    return golden


def golden_noise(golden: Golden) -> list[Tensor]:
    """Normal numbers that the distribution function makes the golden uniform ones."""
    uniform = torch.from_numpy(golden.wanted["noise"]).permute(0, 3, 1, 2)
    return [torch.special.ndtri(uniform.double()).float()]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def networks(
    has_alpha: bool = False, **changes: Any
) -> tuple[LucidrainsGenerator, LucidrainsDiscriminator]:
    """Of 32 px."""
    sizes: dict[str, Any] = {"z_dim": 6, "num_mapping_layers": 3, "widths": (6, 6, 4, 2)}
    arch = LucidrainsArchitecture(**(sizes | changes), image_channels=3 + has_alpha)
    arch_d = LucidrainsDiscriminatorArchitecture(
        (2, 4, 6, 6, 6), attention=arch.attention, has_alpha=has_alpha
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator, discriminator = LucidrainsGenerator(arch), LucidrainsDiscriminator(arch_d)
        for parameter in generator.parameters():
            if parameter.dim() == 1:
                parameter.data.normal_()
    return generator.requires_grad_(False), discriminator.requires_grad_(False)


def content_of(
    generator: LucidrainsGenerator, discriminator: LucidrainsDiscriminator | None
) -> dict[str, Any]:
    """A file as the repository writes it."""
    state = {name: x for name, x in generator.state_dict().items() if name != "w_avg"}
    raw = {name.replace("E.", ".", 1): x + 0.1 for name, x in state.items()}
    judge = {} if discriminator is None else dict(discriminator.state_dict())
    augmented = {f"D_aug.{name}": x for name, x in judge.items()}
    return {"GAN": raw | state | judge | augmented, "version": "1.9.0"}


def import_content(
    content: dict[str, Any], folder: Path, config: dict[str, Any] | None = None
) -> TeacherInfo:
    torch.save(content, folder / "model_7.pt")
    if config is not None:
        (folder / ".config.json").write_text(json.dumps(config))
    return import_teacher(folder / "model_7.pt", folder / "teacher")


def test_golden_features_are_those_of_the_reference(golden: Golden) -> None:
    golden.assert_pooled_features(golden_noise(golden))
    assert golden.info.blocks == tuple(f"GE.blocks.{index}" for index in range(4))


def test_golden_images_and_latents_are_those_of_the_reference(golden: Golden) -> None:
    z, noise, wanted = golden.wanted["z"], golden_noise(golden), golden.wanted
    output = golden.render(noise)
    assert_close(output.ws, wanted["ws"])
    assert_close((output.image + 1) / 2, wanted["image"])
    assert_close((golden.render("none").image + 1) / 2, wanted["image_zero_noise"])
    truncated = golden.generator(torch.from_numpy(z), noise, truncation_psi=0.7)
    assert_close(truncated.ws, wanted["ws_truncated_psi_0_7"])
    assert_close((truncated.image + 1) / 2, wanted["image_truncated_psi_0_7"])


def test_golden_logits_are_those_of_the_reference(golden: Golden) -> None:
    discriminator = load_discriminator(golden.folder)
    image = 2 * torch.from_numpy(golden.wanted["image"]) - 1
    with captured(discriminator, discriminator.blocks) as found:
        assert_close(discriminator(image)[:, 0], golden.wanted["logits"])
    for name in discriminator.blocks:
        assert_close(pool(found[name]), golden.wanted[f"discriminator.{name}"])


def test_golden_inspected_without_noise_has_the_arrays_of_the_reference(golden: Golden) -> None:
    arrays = inspect_latents(golden.folder, golden.wanted["z"], noise="none")
    assert_close(arrays["ws"], golden.wanted["ws"])
    assert_close((arrays["image"] + 1) / 2, golden.wanted["image_zero_noise"])
    assert arrays["logits"].shape == (4, 1)


def test_import_says_what_becomes_of_images_and_truncation(golden: Golden) -> None:
    origin = golden.info.origin
    assert (origin["layout"], origin["weights"]) == ("lucidrains StyleGAN2", "SE and GE")
    assert origin["is_averaged"] is True
    notes = " ".join(origin["notes"])
    assert "[-1, 1]" in notes
    assert "mean of w" in notes
    assert "alpha" not in notes
    assert "lucidrains-tiny.config.json_sha256" in origin


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": (1, 3)},
        {"has_const": False},
        {"widths": (4, 4, 4, 4, 2), "z_dim": 3, "num_mapping_layers": 1},
        {"widths": (5, 4)},
    ],
    ids=["attention", "no-constant", "64-px", "8-px"],
)
def test_import_network_of_another_shape_makes_the_same_images(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    generator, _ = networks(**changes)
    info = import_content(content_of(generator, None), tmp_path, {"lr_mlp": 0.1})
    assert info.generator == generator.arch
    assert info.discriminator is None
    found = load_generator(tmp_path / "teacher")
    z, side = draw(2, generator.arch.z_dim), generator.arch.resolution
    noise = [draw(2, 1, side, side)]
    output, wanted = found(z, noise), generator(z, noise)
    assert_close(output.image, wanted.image)
    assert_close(output.ws, wanted.ws)


def test_import_discriminator_with_attention_judges_alike(tmp_path: Path) -> None:
    generator, discriminator = networks(attention=(1, 3))
    import_content(content_of(generator, discriminator), tmp_path)
    image = draw(2, 3, 32, 32)
    found = load_discriminator(tmp_path / "teacher")
    assert_close(found(image), discriminator(image))


def test_import_transparent_images_lose_their_alpha(tmp_path: Path) -> None:
    generator, discriminator = networks(has_alpha=True)
    info = import_content(content_of(generator, discriminator), tmp_path)
    assert info.generator.image_channels == 3
    assert any("alpha" in note for note in info.origin["notes"])
    z = draw(2, 6)
    image = load_generator(tmp_path / "teacher")(z).image
    assert_close(image, generator(z).image[:, :3])
    assert_close(load_discriminator(tmp_path / "teacher")(image), discriminator(image))


def test_import_learning_rate_of_the_mapping_is_read_beside_the_file(tmp_path: Path) -> None:
    generator, _ = networks(mapping_lr_mult=0.37)
    info = import_content(content_of(generator, None), tmp_path, {"lr_mlp": 0.37})
    assert info.generator == generator.arch
    z = draw(2, 6)
    assert_close(load_generator(tmp_path / "teacher")(z).ws, generator(z).ws)


def test_import_learning_rate_that_nothing_tells_is_said(tmp_path: Path) -> None:
    generator, _ = networks()
    info = import_content(content_of(generator, None), tmp_path)
    assert any("lr_mlp" in note for note in info.origin["notes"])
    for name, bad in (("a", "0.1"), ("b", True), ("c", -1), ("d", float("nan"))):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(UserError, match="lr_mlp"):
            import_content(content_of(generator, None), folder, {"lr_mlp": bad})
        assert not (folder / "teacher").exists()


def test_import_folder_takes_the_last_model(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    generator, _ = networks(mapping_lr_mult=0.2)
    other, _ = networks(widths=(4, 4, 4))
    torch.save(content_of(other, None), folder / "model_9.pt")
    torch.save(content_of(generator, None), folder / "model_10.pt")
    (folder / ".config.json").write_text('{"lr_mlp": 0.2}')
    info = import_teacher(folder, tmp_path / "teacher")
    assert info.generator == generator.arch
    assert info.origin["weights"] == "SE and GE of model_10.pt"


def test_import_mean_latent_is_the_same_every_time_and_near_the_mean(tmp_path: Path) -> None:
    generator, _ = networks()
    means = []
    for name in "ab":
        (tmp_path / name).mkdir()
        import_content(content_of(generator, None), tmp_path / name)
        means.append(load_generator(tmp_path / name / "teacher").get_buffer("w_avg"))
    assert torch.equal(*means)
    w = generator.SE(draw(20_000, 6))
    error = (w.mean(0) - means[0]).abs()
    assert (error < 5 * w.std(0) * (1 / 20_000 + 1 / 10_000) ** 0.5 + 1e-6).all()


def test_import_discriminator_that_quantises_is_left_out(tmp_path: Path) -> None:
    generator, discriminator = networks()
    content = content_of(generator, discriminator)
    content["GAN"]["D.quantize_blocks.1.fn._codebook.embed"] = draw(4, 6)
    info = import_content(content, tmp_path)
    assert info.discriminator is None
    assert any("vector quantisation" in note for note in info.origin["notes"])


@pytest.mark.parametrize(
    "name",
    ["SE.net.2.bias", "GE.initial_conv.weight", "GE.blocks.1.to_noise2.bias", "D.to_logit.bias"],
)
def test_import_tensor_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    content = content_of(*networks())
    del content["GAN"][name]
    with pytest.raises(UserError) as raised:
        import_content(content, tmp_path)
    assert f"GAN.{name}" in str(raised.value)
    assert not (tmp_path / "teacher").exists()
