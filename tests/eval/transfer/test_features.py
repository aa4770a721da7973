"""Representations under the transfer protocol, and what is kept of them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.eval.transfer.features import Loading, TransferFeatures, extract_features
from pipeline.eval.transfer.images import SplitImages, TransferImages
from pipeline.student.backbone import StudentResNet
from pipeline.student.representations import weights_digest
from shards.errors import UserError

LOADING = Loading(torch.device("cpu"), batch_size=4)
SIZES = [(40, 30), (30, 40), (32, 32), (300, 260), (260, 500), (224, 224), (225, 224), (64, 9)]


def write_images(folder: Path) -> TransferImages:
    """Noise of many shapes: four images to train, two each to validate and test."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for row, (width, height) in enumerate(SIZES):
        pixels = np.random.default_rng(row).integers(0, 256, (height, width, 3)).astype(np.uint8)
        files.append(folder / f"{row}.png")
        Image.fromarray(pixels).save(files[-1])
    Image.open(files[2]).convert("L").save(files[2])  # a grey one
    names = tuple(file.name for file in files)
    parts = [
        SplitImages(names[a:b], np.arange(a, b), tuple(files[a:b]))
        for a, b in ((0, 4), (4, 6), (6, 8))
    ]
    return TransferImages("dtd", *parts)


class Pixels(nn.Module):
    """Gives every sixteenth pixel of what it sees; fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.is_broken = False

    def forward(self, images: Tensor) -> Tensor:
        assert not self.is_broken
        assert images.shape[1:] == (3, 224, 224)
        return self.gain * images[:, :, ::16, ::16].flatten(1)


def reference_pixels(file: Path) -> np.ndarray:
    """Kornblith et al. 2019, appendix A.4, with Pillow and numpy in float64."""
    image = Image.open(file).convert("RGB")
    width, height = image.size
    short = min(width, height)
    width, height = 224 * width // short, 224 * height // short
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224))).astype(np.float64) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return pixels.transpose(2, 0, 1)[:, ::16, ::16].ravel()


def stacked(features: TransferFeatures) -> np.ndarray:
    parts = (features.train, features.val, features.test)
    return np.concatenate([part.representations for part in parts])


def assert_equal(found: TransferFeatures, expected: TransferFeatures) -> None:
    assert (found.name, found.split_digest) == (expected.name, expected.split_digest)
    for split in ("train", "val", "test"):
        left, right = getattr(found, split), getattr(expected, split)
        np.testing.assert_array_equal(left.representations, right.representations)
        np.testing.assert_array_equal(left.labels, right.labels)
        assert left.representations.dtype == np.float32


def test_images_are_resized_cropped_and_normalised_as_the_protocol_says(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    features = extract_features(Pixels(), images, LOADING)
    assert features.split_digest == images.digest
    row = 0
    for split, part in zip(
        images.splits, (features.train, features.val, features.test), strict=True
    ):
        assert isinstance(split.pixels, tuple)
        np.testing.assert_array_equal(part.labels, split.labels)
        for file, found in zip(split.pixels, part.representations, strict=True):
            np.testing.assert_allclose(found, reference_pixels(file), rtol=0, atol=1e-5)
            row += 1
    assert row == len(SIZES)


def test_student_with_the_cifar_stem_takes_them_in_evaluation_mode(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    student = StudentResNet("resnet18", width=4, stem="cifar").train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    features = extract_features(student, images, LOADING)
    assert features.train.representations.shape == (4, student.representation_dim)
    torch.testing.assert_close(dict(student.state_dict()), before, rtol=0, atol=0)
    alone = extract_features(student, images, Loading(torch.device("cpu"), batch_size=1))
    np.testing.assert_allclose(stacked(alone), stacked(features), rtol=1e-4, atol=1e-5)


def test_workers_change_nothing_and_no_generator_is_drawn_from(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    state = torch.get_rng_state()
    alone = extract_features(Pixels(), images, LOADING)
    with_workers = Loading(LOADING.device, batch_size=4, num_workers=2)
    assert_equal(extract_features(Pixels(), images, with_workers), alone)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_unreadable_image_is_one_line(tmp_path: Path, num_workers: int) -> None:
    images = write_images(tmp_path)
    (tmp_path / "5.png").write_bytes(b"no image")
    loading = Loading(LOADING.device, batch_size=4, num_workers=num_workers)
    with pytest.raises(UserError, match=r"5\.png: not a readable image") as raised:
        extract_features(Pixels(), images, loading)
    assert "\n" not in str(raised.value)


def test_image_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> None:  # root may read what chmod forbids
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    images = write_images(tmp_path)
    monkeypatch.setattr(Image, "open", forbidden)
    with pytest.raises(UserError, match=r"0\.png: Permission denied; check its permissions"):
        images.train.open(0)


def test_progress_adds_up_to_all_images(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    done: list[int] = []
    extract_features(Pixels(), images, LOADING, done.append)
    assert sum(done) == images.num_images


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Identity(), r"gives \[4, 3, 224, 224\] for 4 images"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 1), nn.Flatten(0)), r"gives \[4\]"),
    ],
)
def test_backbone_without_representations_is_refused(
    tmp_path: Path, network: nn.Module, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        extract_features(network, write_images(tmp_path), LOADING)


def test_representations_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    backbone = Pixels()
    nn.init.constant_(backbone.gain, float("nan"))
    with pytest.raises(UserError, match="dtd: representations are not finite"):
        extract_features(backbone, write_images(tmp_path), LOADING, cache=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_kept_representations_come_back_without_the_backbone(tmp_path: Path) -> None:
    images, backbone = write_images(tmp_path), Pixels()
    computed = extract_features(backbone, images, LOADING, cache=tmp_path / "kept")
    assert_equal(computed, extract_features(backbone, images, LOADING))
    backbone.is_broken = True
    assert_equal(extract_features(backbone, images, LOADING, cache=tmp_path / "kept"), computed)


def test_labels_of_several_classes_are_kept_too(tmp_path: Path) -> None:
    images = write_images(tmp_path)
    parts = [
        SplitImages(split.names, split.labels[:, None] % np.arange(2, 6) == 0, split.pixels)
        for split in images.splits
    ]
    images, backbone = TransferImages("voc2007", *parts), Pixels()
    computed = extract_features(backbone, images, LOADING, cache=tmp_path / "kept")
    backbone.is_broken = True
    found = extract_features(backbone, images, LOADING, cache=tmp_path / "kept")
    assert_equal(found, computed)
    assert found.test.labels.shape == (2, 4)


def with_other_weights(images: TransferImages) -> tuple[nn.Module, TransferImages]:
    backbone = Pixels()
    nn.init.constant_(backbone.gain, 2.0)
    return backbone, images


class NegativePixels(Pixels):
    """The same weights, put to another use."""

    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


def with_other_modules(images: TransferImages) -> tuple[nn.Module, TransferImages]:
    return NegativePixels(), images


def with_another_split(images: TransferImages) -> tuple[nn.Module, TransferImages]:
    return Pixels(), TransferImages("dtd", images.train, images.test, images.val)


@pytest.mark.parametrize("change", [with_other_weights, with_other_modules, with_another_split])
def test_other_weights_modules_or_splits_are_computed_anew(
    tmp_path: Path, change: Callable[[TransferImages], tuple[nn.Module, TransferImages]]
) -> None:
    images = write_images(tmp_path)
    extract_features(Pixels(), images, LOADING, cache=tmp_path / "kept")
    backbone, changed = change(images)
    found = extract_features(backbone, changed, LOADING, cache=tmp_path / "kept")
    assert_equal(found, extract_features(backbone, changed, LOADING))
    assert len(list((tmp_path / "kept").rglob("*.npy"))) == 2


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_bit(content: bytes) -> bytes:
    place = len(content) // 3
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lambda content: b""])
def test_damaged_entry_is_computed_and_kept_again(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    images, backbone = write_images(tmp_path), Pixels()
    computed = extract_features(backbone, images, LOADING, cache=tmp_path / "kept")
    (file,) = (tmp_path / "kept").rglob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert_equal(extract_features(backbone, images, LOADING, cache=tmp_path / "kept"), computed)
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    "change",
    [
        lambda network: network.train(),
        lambda network: network.requires_grad_(False),
    ],
)
def test_digest_of_weights_is_of_weights_alone(change: Callable[[nn.Module], Any]) -> None:
    network = StudentResNet("resnet18", width=4)
    before = weights_digest(network.eval())
    change(network)
    assert weights_digest(network) == before
    network.bn1.running_mean.add_(1)  # type: ignore[union-attr]
    assert weights_digest(network) != before
