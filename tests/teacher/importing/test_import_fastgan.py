"""FastGAN's files: golden numbers, the averaged list, other sizes and forms, and misfits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.teacher.architectures.fastgan import FastGANDiscriminatorArchitecture
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from pipeline.teacher.networks.fastgan import FastGANGenerator
from pipeline.teacher.networks.fastgan_discriminator import FastGANDiscriminator
from shards.errors import UserError
from tests.support.golden_files import Golden, assert_close, import_golden
from tests.support.golden_networks import GOLDEN
from tests.support.spectral_files import state_of, with_spectral_norm
from tests.support.tiny_teachers import fastgan, with_statistics

WIDTHS = (1, 1, 2, 2, 2, 3, 3, 4)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return import_golden("fastgan-all-tiny.pth", tmp_path_factory.mktemp("fastgan") / "teacher")


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """The golden file, without its optimisers."""
    file = torch.load(GOLDEN / "fastgan-all-tiny.pth", weights_only=True)
    return {name: file[name] for name in ("g", "d", "g_ema", "opt_g")}


@pytest.fixture(scope="module")
def reference() -> FastGANGenerator:
    """Of 256 px, as the repository runs it."""
    return with_spectral_norm(fastgan())


def discriminator_of(resolution: int) -> FastGANDiscriminator:
    arch = FastGANDiscriminatorArchitecture(resolution, WIDTHS[resolution < 1024 :])
    return with_spectral_norm(with_statistics(FastGANDiscriminator, arch))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def assert_refused(content: dict[str, Any], folder: Path, *mentions: str) -> None:
    torch.save(content, folder / "all_1.pth")
    with pytest.raises(UserError) as raised:
        import_teacher(folder / "all_1.pth", folder / "teacher")
    assert "\n" not in str(raised.value)
    for mention in mentions:
        assert mention in str(raised.value)
    assert not (folder / "teacher").exists()


def test_golden_features_are_those_of_the_reference(golden: Golden) -> None:
    golden.assert_pooled_features()
    blocks = ("init", "feat_8", "feat_16", "feat_32", "se_64", "se_128", "se_256")
    assert golden.info.blocks == blocks


def test_golden_images_are_those_of_the_reference(golden: Golden) -> None:
    output = golden.render()
    assert output.small_image is not None
    assert_close(output.image[:, :, 3::8, 3::8], golden.wanted["image_no_noise_every"])
    assert_close(output.small_image[:, :, 1::4, 1::4], golden.wanted["image_128_no_noise_every"])
    for image, name in ((output.image, "image"), (output.small_image, "image_128")):
        mean = F.adaptive_avg_pool2d(image, 8)
        assert_close(mean, golden.wanted[f"{name}_no_noise_mean_8x8"])


def test_golden_logits_are_those_of_the_reference(golden: Golden) -> None:
    arrays = inspect_latents(golden.folder, golden.wanted["z"], noise="none")
    big, small = np.split(arrays["logits"], 2, 1)  # the file has all of the first kind first
    assert_close(np.concatenate([big.ravel(), small.ravel()]), golden.wanted["logits"])
    assert arrays["discriminator.se_8_64"].shape == (4, 32)


def test_import_says_whose_weights_are_taken(golden: Golden) -> None:
    origin = golden.info.origin
    assert (origin["layout"], origin["weights"], origin["is_averaged"]) == (
        "FastGAN",
        "g_ema",
        True,
    )
    assert any("batch norms" in note for note in origin["notes"])


def test_import_small_file_has_the_averaged_weights_in_g(
    content: dict[str, Any], golden: Golden, tmp_path: Path
) -> None:
    buffers = ("weight_u", "weight_v", "running_mean", "running_var", "num_batches_tracked")
    names = [name for name in content["g"] if not name.endswith(buffers)]
    averaged = {**content["g"], **dict(zip(names, content["g_ema"], strict=True))}
    plain = {name.removeprefix("module."): x for name, x in averaged.items()}
    torch.save({"g": plain, "d": content["d"]}, tmp_path / "50000.pth")
    info = import_teacher(tmp_path / "50000.pth", tmp_path / "teacher")
    assert info.digests == golden.info.digests
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("g", True)


def test_import_generator_alone_is_read_from_any_format(
    reference: FastGANGenerator, tmp_path: Path
) -> None:
    state = state_of(reference, "synthesis.")
    torch.save({"net": state}, tmp_path / "g.pth", _use_new_zipfile_serialization=False)
    info = import_teacher(tmp_path / "g.pth", tmp_path / "teacher")
    assert info.discriminator is None
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("net", None)
    z = draw(1, 5)
    image = load_generator(tmp_path / "teacher")(z).image
    assert_close(image, reference(z).image)


@pytest.mark.parametrize(("num_resolutions", "resolution"), [(7, 256), (8, 512), (9, 1024)])
def test_import_every_size_equals_torchs_spectral_normalisation(
    num_resolutions: int, resolution: int, tmp_path: Path
) -> None:
    reference = with_spectral_norm(fastgan(num_resolutions))
    judge = discriminator_of(resolution)
    raw = with_spectral_norm(fastgan(num_resolutions))
    for parameter in raw.parameters():
        parameter.data.add_(0.1)
    decoder = {f"module.decoder_big.main.{i}.weight_orig": draw(3, 1, 3, 3) for i in (1, 5)}
    torch.save(
        {
            "g": state_of(raw, "synthesis.", "module."),
            "d": state_of(judge, add="module.") | decoder,
            "g_ema": [parameter.detach().clone() for parameter in reference.parameters()],
            "opt_g": {"state": {0: {"step": 3, "exp_avg": draw(4)}}},
        },
        tmp_path / "all_100.pth",
    )
    info = import_teacher(tmp_path / "all_100.pth", tmp_path / "teacher")
    assert (info.generator.resolution, info.generator.z_dim) == (resolution, 5)
    generator = load_generator(tmp_path / "teacher")
    noise = [draw(1, 1, side, side) for side in generator.noise_resolutions]
    output, wanted = generator(draw(1, 5), noise), reference(draw(1, 5), noise)
    assert_close(output.image, wanted.image)
    logits = load_discriminator(tmp_path / "teacher").judge(output)
    assert_close(logits, judge.judge(wanted))


def test_import_latent_as_wide_as_the_first_layer_is_not_transposed(tmp_path: Path) -> None:
    reference = with_spectral_norm(fastgan(z_dim=8))  # [8, 2 · 4, 4, 4]
    torch.save({"g": state_of(reference, "synthesis.")}, tmp_path / "1.pth")
    import_teacher(tmp_path / "1.pth", tmp_path / "teacher")
    image = load_generator(tmp_path / "teacher")(draw(1, 8)).image
    assert_close(image, reference(draw(1, 8)).image)


def test_import_averaged_list_of_another_network_is_refused(
    content: dict[str, Any], tmp_path: Path
) -> None:
    short = content | {"g_ema": content["g_ema"][:-1]}
    assert_refused(short, tmp_path, "g_ema: holds 43 tensors for 44 parameters of g")
    turned = content | {"g_ema": [content["g_ema"][0].transpose(0, 1), *content["g_ema"][1:]]}
    assert_refused(turned, tmp_path, "g.module.init.init.0.weight_orig", "[64, 10, 4, 4]")
    other = content | {"g_ema": [3, *content["g_ema"][1:]]}
    assert_refused(other, tmp_path, "g_ema[0]: not a tensor")


@pytest.mark.parametrize(
    ("part", "name", "mention"),
    [
        ("g", "feat_8.1.weight_u", "g.module.feat_8.1.weight_u: expected a vector of 32"),
        ("g", "feat_16.2.running_var", "missing g.module.feat_16.2.running_var"),
        ("g", "feat_256.1.weight_orig", "widths: for 256 to 1024 px"),
        ("d", "down_8.main.3.weight_orig", "missing d.module.down_8.main.3.weight_orig"),
        ("d", "rf_big.0.weight_orig", "d.module.rf_big.0.weight_orig: expected the weight"),
    ],
)
def test_import_tensor_that_is_missing_is_named(
    part: str, name: str, mention: str, content: dict[str, Any], tmp_path: Path
) -> None:
    state = {key: x for key, x in content[part].items() if key != f"module.{name}"}
    kept = {key: content[key] for key in ("g", "d")}
    assert_refused(kept | {part: state}, tmp_path, mention)


def test_import_weight_without_a_norm_is_named(content: dict[str, Any], tmp_path: Path) -> None:
    state = dict(content["g"]) | {"module.feat_8.1.weight_u": torch.zeros(32)}
    assert_refused({"g": state}, tmp_path, "g.module.feat_8.1.weight_orig: its spectral norm")
    state |= {"module.feat_8.1.weight_orig": torch.zeros(3)}
    assert_refused({"g": state}, tmp_path, "g.module.feat_8.1.weight_orig: expected a weight")


def test_import_half_precision_loses_nothing_more(
    reference: FastGANGenerator, tmp_path: Path
) -> None:
    state = {name: x.half() for name, x in state_of(reference, "synthesis.").items()}
    for content in (state, {name: x.float() for name, x in state.items()}):
        torch.save({"g": content}, tmp_path / "1.pth")
        import_teacher(tmp_path / "1.pth", tmp_path / f"teacher-{content is state}")
    halves, wholes = (load_generator(tmp_path / f"teacher-{name}") for name in (True, False))
    assert torch.equal(halves(draw(1, 5)).image, wholes(draw(1, 5)).image)
