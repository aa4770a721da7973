"""Representations of stored images, in blocks that are made once."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.config.ray import RayConfig
from pipeline.engine.workers import Workers
from pipeline.student import extraction
from pipeline.student.backbone import Normalise, StudentResNet, build_backbone
from pipeline.student.extraction import Extractor, Frozen, calibrate_batch_norm
from pipeline.student.representations import weights_digest
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages
from shards.errors import UserError
from shards.reader import ShardReader
from shards.schema import Schema, image_column
from shards.storage import Folder
from tests.support.shard_sets import smooth_images, write_set
from tests.support.stored_pools import flip
from tests.support.tiny_shards import RESOLUTION, TRAIN_CONFIG, real_arrays

CPU = torch.device("cpu")
IMAGES = torch.from_numpy(real_arrays(40)["image"])


@pytest.fixture
def real_images(real_reader: ShardReader) -> SizedImages:
    return SizedImages(real_reader, RESOLUTION)


@pytest.fixture
def extractor(tmp_path: Path) -> Extractor:
    return Extractor(tmp_path / "kept", Workers(RayConfig(), "cpu"))


def backbone() -> StudentResNet:
    network = build_backbone(TRAIN_CONFIG.student, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.add_(torch.rand(value.shape, generator=generator))
    return network


def frozen(network: nn.Module | None = None) -> Frozen:
    return Frozen(network or backbone(), TRAIN_CONFIG.pixel_mean, TRAIN_CONFIG.pixel_std)


def normalised() -> torch.Tensor:
    images: torch.Tensor = Normalise(TRAIN_CONFIG.pixel_mean, TRAIN_CONFIG.pixel_std)(IMAGES)
    return images


def extract(
    extractor: Extractor,
    images: SizedImages,
    rows: np.ndarray | None = None,
    network: Frozen | None = None,
) -> np.ndarray:
    found: Vectors = extractor.extract(network or frozen(), images, rows, "student")
    return found.array()


def blocks(extractor: Extractor) -> list[Path]:
    return sorted(extractor.folder.rglob("*.npy"))


def test_extract_equals_the_backbone_in_evaluation_mode(
    extractor: Extractor, real_images: SizedImages
) -> None:
    network = backbone()
    found = extract(extractor, real_images, network=frozen(network.train()))
    with torch.no_grad():
        expected = network.eval()(normalised()).numpy()
    assert found.shape == (40, network.representation_dim)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_extract_does_not_move_the_running_statistics(
    extractor: Extractor, real_images: SizedImages
) -> None:
    network = backbone()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract(extractor, real_images, network=frozen(network))
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)


def test_extract_rows_come_in_the_order_in_which_they_are_asked_for(
    extractor: Extractor, real_images: SizedImages
) -> None:
    whole = extract(extractor, real_images)
    rows = np.array([31, 2, 2, 17, 0])
    found = extract(extractor, real_images, rows)
    # float32 kernels may round by batch size
    np.testing.assert_allclose(found, whole[rows], rtol=1e-4, atol=1e-5)


def test_extract_pixels_are_the_images_in_unit_range(
    extractor: Extractor, real_images: SizedImages
) -> None:
    found = extract(extractor, real_images, network=Frozen(None))
    np.testing.assert_array_equal(found, IMAGES.numpy().reshape(40, -1) / np.float32(255))
    (block,) = blocks(extractor)
    assert np.load(block).dtype == np.uint8


def test_extract_is_computed_once_for_the_same_network_and_images(
    extractor: Extractor, real_images: SizedImages
) -> None:
    rows = np.array([3, 1])
    plain = extract(extractor, real_images, rows)
    written = {path: path.stat().st_mtime_ns for path in blocks(extractor)}
    np.testing.assert_array_equal(extract(extractor, real_images, rows), plain)
    np.testing.assert_array_equal(extract(extractor, real_images, rows[::-1]), plain[::-1])
    assert {path: path.stat().st_mtime_ns for path in blocks(extractor)} == written
    network = backbone()
    with torch.no_grad():
        network.conv1.weight.mul_(2)
    assert not np.array_equal(extract(extractor, real_images, rows, frozen(network)), plain)
    assert len(blocks(extractor)) == 2 * len(written)


@pytest.mark.parametrize("damage", ["cut", "a bit", "empty", "gone"])
def test_extract_of_a_damaged_block_computes_it_again(
    extractor: Extractor, real_images: SizedImages, damage: str
) -> None:
    plain = extract(extractor, real_images)
    (block, *_) = blocks(extractor)
    content = bytearray(block.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut": content[:200], "a bit": content, "empty": b"", "gone": None}[damage]
    block.unlink()
    if damaged is not None:
        block.write_bytes(damaged)
    np.testing.assert_array_equal(extract(extractor, real_images), plain)
    assert block.exists()


def many_images(folder: Path, sizes: list[int]) -> SizedImages:
    images = smooth_images(sum(sizes), 0)
    schema = Schema((image_column(images.shape[-1], "npy", None),))
    write_set(Folder.at(folder), schema, {"image": images}, sizes)
    return SizedImages(ShardReader(folder, remedy=""), images.shape[-1])


def test_extract_small_shards_share_a_block_and_large_ones_have_several(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PIECE_ROWS", (10, 16))
    images = many_images(tmp_path / "shards", [4, 4, 4, 40, 3])
    found = extract(extractor, images, network=Frozen(None))
    sizes = sorted(len(np.load(path)) for path in blocks(extractor))
    assert sizes == [3, 8, 12, 16, 16]
    expected = images.gather(np.arange(55)).flatten(1).numpy() / np.float32(255)
    np.testing.assert_array_equal(found, expected)


def test_extract_of_more_images_takes_the_blocks_of_fewer(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PIECE_ROWS", (1, 16))
    images = many_images(tmp_path / "shards", [10, 10, 10])
    extract(extractor, images, np.arange(20))
    first = set(blocks(extractor))
    extract(extractor, images)
    assert first < set(blocks(extractor))
    assert len(blocks(extractor)) == 3


def test_extract_of_a_damaged_shard_is_refused_and_leaves_no_block(
    extractor: Extractor, tmp_path: Path
) -> None:
    images = many_images(tmp_path / "shards", [10, 10])
    shard = tmp_path / "shards" / images.reader.shards[0].name
    content = bytearray(shard.read_bytes())
    content[2000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="content differs from the manifest"):
        extract(extractor, images)
    assert not blocks(extractor)


def test_extract_that_fails_goes_on_behind_its_last_block(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PIECE_ROWS", (1, 16))
    images = many_images(tmp_path / "shards", [10, 10, 10])
    undisturbed = extract(Extractor(tmp_path / "other", extractor.workers), images)
    write, seen = extraction.write_block, list[Path]()

    def write_two(path: Path, block: np.ndarray) -> None:
        seen.append(path)
        if len(seen) == 3:
            raise KeyboardInterrupt
        write(path, block)

    monkeypatch.setattr(extraction, "write_block", write_two)
    with pytest.raises(KeyboardInterrupt):
        extract(extractor, images)
    assert len(blocks(extractor)) == 2
    np.testing.assert_array_equal(extract(extractor, images), undisturbed)
    assert len(seen) == 4


def test_extract_lets_go_of_shards_whose_block_is_written(
    extractor: Extractor, tmp_path: Path
) -> None:
    images = many_images(tmp_path / "shards", [1100, 1100])
    extract(extractor, images)
    assert str(tmp_path / "shards") not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_extract_removes_what_killed_runs_began_and_not_what_others_write(
    extractor: Extractor, real_images: SizedImages
) -> None:
    extract(extractor, real_images)
    (block,) = blocks(extractor)
    block.unlink()
    for name, age_s in (("old", 7200), ("new", 5)):
        path = block.parent / f".{name}.tmp"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age_s,) * 2)
    extract(extractor, real_images)
    assert {path.name for path in block.parent.iterdir()} == {block.name, ".new.tmp"}


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_extract_on_workers_gives_the_very_blocks(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many_images(tmp_path / "shards", [1100, 1100, 30])
    here = extract(extractor, images)
    on_ray = Extractor(tmp_path / "ray", Workers(RayConfig(eval_workers=2), "cpu"))
    np.testing.assert_array_equal(extract(on_ray, images), here)
    contents = [[path.read_bytes() for path in blocks(one)] for one in (extractor, on_ray)]
    assert contents[0] == contents[1]


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_extract_makes_damaged_blocks_again_that_workers_find(
    extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_CHECKED_AT_ONCE", 1)
    images = many_images(tmp_path / "shards", [1100, 1100])
    whole = extract(extractor, images)
    contents = [path.read_bytes() for path in blocks(extractor)]
    flip(blocks(extractor)[0], at=-100)
    on_ray = replace(extractor, workers=Workers(RayConfig(eval_workers=2), "cpu"))
    np.testing.assert_array_equal(extract(on_ray, images), whole)
    assert [path.read_bytes() for path in blocks(extractor)] == contents


def count_nothing(device: torch.device) -> int:
    return 0


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_extract_on_workers_of_another_working_directory_finds_a_relative_folder(
    tmp_path: Path, real_images: SizedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_ray = Extractor(Path("kept"), Workers(RayConfig(eval_workers=2), "cpu"))
    on_ray.workers.run_one(count_nothing)  # Ray is there, and was started elsewhere
    monkeypatch.chdir(tmp_path)
    extract(on_ray, real_images)
    assert len(list((tmp_path / "kept").rglob("*.npy"))) == 1
    monkeypatch.setattr(extraction, "read_block", lambda path: None)  # as of a disk of its own
    with pytest.raises(UserError, match=r"^paths\.runs: .*a folder that all nodes see"):
        extract(on_ray, real_images)


def calibrated(network: StudentResNet, images: SizedImages) -> StudentResNet:
    network.load_state_dict(calibrate_batch_norm(frozen(network), images, CPU))
    return network


def test_calibrate_batch_norm_statistics_become_those_of_the_images(
    real_images: SizedImages,
) -> None:
    network = backbone()
    weights = {name: value.clone() for name, value in network.named_parameters()}
    calibrate = calibrated(network, real_images)
    first = calibrate.get_submodule("bn1")
    assert isinstance(first, nn.BatchNorm2d)
    with torch.no_grad():
        inputs = network.conv1(normalised())
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, inputs.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, inputs.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(calibrate.named_parameters()), weights, rtol=0, atol=0)


def test_calibrate_batch_norm_leaves_the_network_as_workers_do(real_images: SizedImages) -> None:
    network = backbone()
    before = weights_digest(network)
    calibrate_batch_norm(frozen(network), real_images, CPU)
    assert weights_digest(network) == before
