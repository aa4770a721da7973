"""Representations of stored images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.eval.extract import calibrate_batch_norm, extract, raw_pixels
from pipeline.student.backbone import Normalise, StudentResNet, build_backbone
from pipeline.student.view_size import SizedImages
from shards.reader import ShardReader
from tests.support.tiny_shards import RESOLUTION, TRAIN_CONFIG, real_arrays

CPU = torch.device("cpu")
IMAGES = torch.from_numpy(real_arrays(40)["image"])


@pytest.fixture
def real_images(real_reader: ShardReader) -> SizedImages:
    return SizedImages(real_reader, RESOLUTION)


def backbone() -> StudentResNet:
    network = build_backbone(TRAIN_CONFIG.student, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.add_(torch.rand(value.shape, generator=generator))
    return network


def normalised() -> torch.Tensor:
    images: torch.Tensor = Normalise(TRAIN_CONFIG.pixel_mean, TRAIN_CONFIG.pixel_std)(IMAGES)
    return images


def test_extract_equals_the_backbone_in_evaluation_mode(real_images: SizedImages) -> None:
    network = backbone()
    found = extract(network.train(), real_images, TRAIN_CONFIG, CPU)
    with torch.no_grad():
        expected = network.eval()(normalised()).numpy()
    assert found.shape == (40, network.representation_dim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_extract_does_not_move_the_running_statistics(real_images: SizedImages) -> None:
    network = backbone()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract(network, real_images, TRAIN_CONFIG, CPU)
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_extract_prefix_is_the_head_of_the_whole(real_images: SizedImages) -> None:
    network = backbone()
    whole = extract(network, real_images, TRAIN_CONFIG, CPU)
    head = extract(network, real_images, TRAIN_CONFIG, CPU, rows=np.arange(7))
    assert head.shape == (7, network.representation_dim)
    # float32 kernels may round by batch size
    np.testing.assert_allclose(head, whole[:7], rtol=1e-4, atol=1e-5)


def test_calibrate_batch_norm_statistics_become_those_of_the_images(
    real_images: SizedImages,
) -> None:
    network = backbone()
    weights = {name: value.clone() for name, value in network.named_parameters()}
    calibrated = calibrate_batch_norm(network, real_images, TRAIN_CONFIG, CPU)
    first = calibrated.get_submodule("bn1")
    assert isinstance(first, nn.BatchNorm2d)
    with torch.no_grad():
        inputs = network.conv1(normalised())
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, inputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(calibrated.named_parameters()), weights, rtol=0, atol=0)


def test_raw_pixels_are_the_images_in_unit_range(real_images: SizedImages) -> None:
    found = raw_pixels(real_images, np.arange(40))
    np.testing.assert_allclose(found, IMAGES.numpy().reshape(40, -1) / 255, rtol=1e-6)
    assert found.dtype == np.float32


def test_extract_is_computed_once_for_the_same_network_and_images(
    real_images: SizedImages, tmp_path: Path
) -> None:
    network, rows, cache = backbone(), np.array([3, 1]), tmp_path / "cache"
    plain = extract(network, real_images, TRAIN_CONFIG, CPU, rows)
    for _ in range(2):
        found = extract(network, real_images, TRAIN_CONFIG, CPU, rows, cache)
        np.testing.assert_array_equal(found, plain)
    assert len(list(cache.iterdir())) == 1
    turned = extract(network, real_images, TRAIN_CONFIG, CPU, rows[::-1], cache)
    np.testing.assert_array_equal(turned, plain[::-1])
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    assert not np.array_equal(extract(network, real_images, TRAIN_CONFIG, CPU, rows, cache), plain)
    assert len(list(cache.iterdir())) == 3


def test_extract_from_a_damaged_entry_computes_again(
    real_images: SizedImages, tmp_path: Path
) -> None:
    network, cache = backbone(), tmp_path / "cache"
    plain = extract(network, real_images, TRAIN_CONFIG, CPU, cache=cache)
    (entry,) = cache.iterdir()
    entry.write_bytes(entry.read_bytes()[:200])
    found = extract(network, real_images, TRAIN_CONFIG, CPU, cache=cache)
    np.testing.assert_array_equal(found, plain)
