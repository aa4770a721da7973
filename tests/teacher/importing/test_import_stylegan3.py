"""StyleGAN3 and StyleGAN-XL: the reference's numbers, and other files of the same kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed.reference_stylegan3 import Geometry, synthesise
from pipeline.teacher.architectures.stylegan3 import StyleGAN3Architecture
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.features import captured
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError
from tests.support.golden_networks import GOLDEN, assert_golden, read_golden
from tests.support.stylegan3_files import StyleGAN3Spec, reference_ws, write_stylegan3

NAMES = ["stylegan3-t-tiny", "stylegan3-r-tiny", "styleganxl-cond-tiny"]
MARGIN = 10


@pytest.mark.parametrize("name", NAMES)
def test_import_stylegan3_golden_file_gives_the_stored_arrays(name: str, tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / f"{name}.pkl", tmp_path)
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("G_ema", True)
    wanted = read_golden(name)
    labels = wanted.pop("c", None)
    found = inspect_latents(tmp_path, wanted["z"], labels=labels)
    truncated = inspect_latents(tmp_path, wanted["z"], labels=labels, truncation_psi=0.7)
    found |= {f"{key}_truncated_psi_0_7": truncated[key] for key in ("ws", "image")}
    wanted = {key: array for key, array in wanted.items() if not key.startswith("pooled_no_margin")}
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert_golden(found[key], array, key)


@pytest.mark.parametrize("name", NAMES)
def test_import_stylegan3_golden_maps_without_their_margins_have_the_stored_means(
    name: str, tmp_path: Path
) -> None:
    import_teacher(GOLDEN / f"{name}.pkl", tmp_path)
    generator = load_generator(tmp_path)
    arrays = read_golden(name)
    labels = torch.from_numpy(arrays["c"]) if "c" in arrays else None
    start = "pooled_no_margin."
    wanted = {
        key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)
    }
    with captured(generator, list(wanted)) as found:
        generator(torch.from_numpy(arrays["z"]), labels=labels)
    for key, array in wanted.items():
        inner = found[key][:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert_golden(inner.mean((2, 3)).numpy(), array, key)


def test_import_stylegan3_says_what_it_found(tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / "styleganxl-cond-tiny.pkl", tmp_path)
    arch = info.generator
    assert isinstance(arch, StyleGAN3Architecture)
    assert (arch.resolution, arch.num_classes, arch.class_width) == (16, 6, 10)
    assert info.origin["layout"] == "StyleGAN-XL stem"
    assert info.origin["notes"] == [
        "its discriminator judges features of other networks, and is left out"
    ]
    assert info.discriminator is None


T_64 = Geometry(resolution=64, channel_base=160, channel_max=9, num_layers=10, margin=8)
VARIANTS = {
    "64 px, other layers and margins": StyleGAN3Spec(geometry=T_64),
    "one critical layer, kernels of 5, a clamp that bites": StyleGAN3Spec(
        geometry=Geometry(
            resolution=32, channel_base=99, channel_max=7, num_layers=6, num_critical=1, kernel=5
        ),
        conv_clamp=1.5,
        output_scale=0.5,
    ),
    "radial, unclamped, conditional": StyleGAN3Spec(
        geometry=Geometry(
            resolution=64, channel_base=160, channel_max=8, num_layers=8, kernel=1, is_radial=True
        ),
        num_classes=3,
        num_mapping_layers=3,
        mapping_lr_mult=0.02,
        conv_clamp=None,
    ),
    "16 px, generator alone": StyleGAN3Spec(
        geometry=Geometry(resolution=16, channel_base=60, channel_max=6, num_layers=5, margin=6),
        has_discriminator=False,
    ),
    "StyleGAN-XL with classes": StyleGAN3Spec(
        geometry=Geometry(resolution=16, channel_base=60, channel_max=6, num_layers=6),
        num_classes=4,
        class_width=5,
        has_discriminator=False,
    ),
    "StyleGAN-XL without classes": StyleGAN3Spec(
        geometry=Geometry(resolution=16, channel_base=60, channel_max=6, num_layers=6),
        class_width=5,
        has_discriminator=False,
    ),
    "StyleGAN-XL without classes, with a projection": StyleGAN3Spec(
        geometry=Geometry(resolution=16, channel_base=60, channel_max=6, num_layers=6),
        class_width=5,
        has_unused_projection=True,
        has_discriminator=False,
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_import_stylegan3_of_any_shape_computes_the_papers_equations(
    name: str, tmp_path: Path
) -> None:
    spec = VARIANTS[name]
    state = write_stylegan3(tmp_path / "network.pkl", spec)
    info = import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert (info.discriminator is not None) == spec.has_discriminator
    assert info.origin["layout"] == ("StyleGAN-XL stem" if spec.class_width else "StyleGAN3")
    assert info.generator.num_classes == spec.num_classes
    state = {key: tensor.double() for key, tensor in state.items()}
    z = torch.randn(3, spec.z_dim, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 2, 1]) if spec.num_classes else None
    w = reference_ws(spec, state, z.double(), classes)
    mean = state["mapping.w_avg"]
    mean = mean[classes] if mean.dim() == 2 else mean
    ws = w[:, None].repeat(1, spec.geometry.num_layers + 2, 1)
    ws[:, :4] = mean[..., None, :] + 0.6 * (ws[:, :4] - mean[..., None, :])  # the first four
    image, features = synthesise(spec.geometry, state, ws, spec.conv_clamp, spec.output_scale)
    found = inspect_latents(
        tmp_path / "teacher",
        z.numpy(),
        labels=None if classes is None else classes.numpy(),
        truncation_psi=0.6,
        truncation_cutoff=4,
    )
    assert_golden(found["ws"], ws.numpy(), "ws")
    assert_golden(found["image"], image.numpy(), "image")
    for key, feature in features.items():
        assert_golden(found[f"pooled.{key}"], feature.mean((2, 3)).numpy(), key)


@pytest.mark.parametrize("outside", [(), ("state", "networks")])
def test_import_stylegan3_state_dicts_are_taken_as_the_authors_train(
    outside: tuple[str, ...], tmp_path: Path
) -> None:
    import_teacher(GOLDEN / "stylegan3-t-tiny.pkl", tmp_path / "whole")
    content: Any = {
        "G_ema": load_generator(tmp_path / "whole").state_dict(),
        "D": load_discriminator(tmp_path / "whole").state_dict(),
    }
    for key in reversed(outside):
        content = {key: content, "epoch": 3}
    torch.save(content, tmp_path / "states.pt")
    info = import_teacher(tmp_path / "states.pt", tmp_path / "alone")
    assert info.origin["weights"] == ".".join([*outside, "G_ema"])
    assert info.origin["is_averaged"] is True
    assert "as the authors train" in info.origin["notes"][0]
    wanted = read_golden("stylegan3-t-tiny")
    found = inspect_latents(tmp_path / "alone", wanted["z"])
    for key in ("image", "logits"):
        assert_golden(found[key], wanted[key], key)


def test_import_stylegan3_misfit_has_the_names_of_the_file(tmp_path: Path) -> None:
    state = dict(write_stylegan3(tmp_path / "network.pkl", VARIANTS["16 px, generator alone"]))
    del state["synthesis.input.affine.bias"]
    torch.save({"G_ema": state}, tmp_path / "states.pt")
    with pytest.raises(UserError, match=r"missing G_ema\.synthesis\.input\.affine\.bias"):
        import_teacher(tmp_path / "states.pt", tmp_path / "teacher")
    del state["mapping.fc0.weight"]
    torch.save({"G_ema": state}, tmp_path / "states.pt")
    with pytest.raises(UserError, match=r"G_ema\.mapping\.fc0\.weight is missing"):
        import_teacher(tmp_path / "states.pt", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_import_stylegan3_with_other_channels_than_those_of_images_is_refused(
    tmp_path: Path,
) -> None:
    spec = VARIANTS["16 px, generator alone"]
    spec = replace(spec, geometry=replace(spec.geometry, image_channels=5))
    write_stylegan3(tmp_path / "network.pkl", spec)
    with pytest.raises(UserError, match="5 channels"):
        import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_import_stylegan_xl_with_more_classes_than_embeddings_is_refused(tmp_path: Path) -> None:
    spec = replace(VARIANTS["StyleGAN-XL with classes"], num_embeddings=3)
    write_stylegan3(tmp_path / "network.pkl", spec)
    with pytest.raises(UserError, match=r"mapping\.embed\.weight has 3 rows for 4 classes"):
        import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


def test_import_stylegan3_super_resolution_of_stylegan_xl_is_refused(tmp_path: Path) -> None:
    spec = VARIANTS["StyleGAN-XL with classes"]
    write_stylegan3(tmp_path / "network.pkl", spec, head_layer_names=["L7_32_4"])
    with pytest.raises(UserError, match="super-resolution stages"):
        import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("output_scale", "large"),
        ("output_scale", float("nan")),
        ("output_scale", 2**40),
        ("output_scale", -1.0),
        ("output_scale", None),
    ],
)
def test_import_stylegan3_absurd_attribute_of_the_synthesis_is_named(
    attribute: str, value: Any, tmp_path: Path
) -> None:
    spec = VARIANTS["16 px, generator alone"]
    write_stylegan3(tmp_path / "network.pkl", spec, **{attribute: value})
    with pytest.raises(UserError, match=attribute):
        import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("up_factor", 10**9),
        ("down_factor", 0),
        ("down_factor", 1.5),
        ("padding", [9, 8, 9, 7]),
        ("padding", [9, 8]),
        ("padding", "9898"),
        ("padding", [2**40] * 4),
        ("out_size", np.array([np.inf, np.inf])),
        ("out_size", np.array([26, 27])),
        ("out_size", "square"),
        ("conv_clamp", "tight"),
        ("activation", "relu"),
    ],
)
def test_import_stylegan3_absurd_attribute_of_a_layer_is_refused(
    attribute: str, value: Any, tmp_path: Path
) -> None:
    spec = replace(VARIANTS["16 px, generator alone"], layer_attributes={attribute: value})
    write_stylegan3(tmp_path / "network.pkl", spec)
    with pytest.raises(UserError) as raised:
        import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    message = str(raised.value)
    assert message.isprintable()
    assert len(message) < 500
    assert not (tmp_path / "teacher").exists()
