"""Features in the plane, and all spaces of a run. In one file, since UMAP takes long to compile."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.eval.discriminator import DiscriminatorBackbone
from pipeline.eval.domains.embedding import MIN_SAMPLES, embed
from pipeline.eval.domains.embedding_plot import embed_all
from pipeline.eval.domains.label_agreement import plane_agreement, space_agreement
from pipeline.eval.domains.labeller import label_synthetic
from pipeline.eval.representation import Representation
from pipeline.eval.subjects import load_student
from pipeline.records.embeddings import Embeddings
from pipeline.records.products import pool_shards, real_shards
from pipeline.student.extraction import Frozen
from pipeline.student.extraction import represent as run_network
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages
from pipeline.teacher.checkpoint import read_discriminator
from pipeline.teacher.description import DISCRIMINATOR_FILE, read_teacher_info
from shards.errors import UserError
from tests.support.command_line import succeed
from tests.support.workspace import make_teacher

pytestmark = pytest.mark.slow
NUM_CLUSTERS = 4
NUM_SAMPLES = 60
CPU = torch.device("cpu")
SPACES = ["discriminator", "w", "generator", "student"]


def planted_clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clouds in directions of their own, [N, D], and which one each sample is of."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % NUM_CLUSTERS
    centres = 10 * np.eye(NUM_CLUSTERS, 12)
    return (centres[labels] + generator.standard_normal((count, 12))).astype(np.float32), labels


def test_embed_planted_clusters_stay_apart() -> None:
    features, labels = planted_clusters(160)
    threads = torch.get_num_threads()
    found = embed(features, seed=0)
    assert torch.get_num_threads() == threads
    assert found.shape == (160, 2)
    assert found.dtype == np.float32
    for cluster in range(NUM_CLUSTERS):
        own, others = found[labels == cluster], found[labels != cluster]
        centre = own.mean(0)
        widest = np.linalg.norm(own - centre, axis=1).max()
        assert widest < np.linalg.norm(others - centre, axis=1).min()


def test_embed_is_a_function_of_features_and_seed() -> None:
    features, _ = planted_clusters(80)
    first, second, other = (embed(features, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_embed_does_not_see_the_length_of_features() -> None:
    features, _ = planted_clusters(80)
    lengths = np.random.default_rng(1).uniform(0.5, 2, (80, 1)).astype(np.float32)
    # the start, principal components, does see it: clusters are compared, not coordinates
    labels = np.arange(80) % NUM_CLUSTERS
    assert plane_agreement(embed(features * lengths, seed=0), labels) == 100


def test_embed_features_all_the_same_lie_in_one_point() -> None:
    found = embed(np.ones((30, 5), np.float32), seed=0)
    np.testing.assert_array_equal(found, np.zeros((30, 2)))


def test_embed_samples_just_enough_and_too_few() -> None:
    features, _ = planted_clusters(MIN_SAMPLES)
    assert np.isfinite(embed(features, seed=0)).all()
    with pytest.raises(ValueError, match="too few"):
        embed(features[1:], seed=0)


def test_embed_features_that_are_not_finite_are_refused() -> None:
    features, _ = planted_clusters(20)
    features[7, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        embed(features, seed=0)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A tiny run on the digits, trained for one epoch."""
    folder = tmp_path_factory.mktemp("run")
    make_teacher(folder / "teacher")
    path = folder / "tiny.yaml"
    sections = {
        "name": "tiny",
        "paths": {"store": str(folder / "store"), "runs": str(folder / "runs")},
        "ray": {"render_workers": 0},
        "hardware": {"device": "cpu"},
        "real": {"source": "digits", "resolution": 16, "samples_per_shard": 500},
        "teacher": {"checkpoint": str(folder / "teacher")},
        "generate": {"num_samples": 100, "samples_per_shard": 50, "render_batch": 25},
        "train": {"epochs": 1, "global_batch": 256, "student": {"width": 4, "embedding_dim": 16}},
        "eval": {"seeds": [2]},
    }
    path.write_text(yaml.safe_dump(sections))
    for stage in ("real", "generate", "train"):
        succeed(stage, path)
    return load_config(path)


@pytest.fixture(scope="module")
def embeddings(config: Config) -> Embeddings:
    return draw(config, NUM_SAMPLES)


def draw(config: Config, num_samples: int) -> Embeddings:
    """The plot of so many samples, of which the student's representations are there."""
    real, synthetic = represent(config)
    return embed_all(config, real, synthetic.take(np.arange(num_samples)), None, CPU)


def extract(network: nn.Module, images: SizedImages, train: TrainConfig) -> Vectors:
    frozen = Frozen(network, train.pixel_mean, train.pixel_std)
    (found,) = run_network(frozen, images, [np.arange(len(images))], CPU)
    return Vectors([found])


def represent(config: Config) -> tuple[Representation, Vectors]:
    """The student's representations of some real images and of synthetic ones."""
    backbone = load_student(config)
    arrays = []
    for split, count in (("train", 300), ("test", 100)):
        reader, rows = real_shards(config, split).open(), np.arange(count)
        representation = extract(backbone, SizedImages(reader, 16), config.train).take(rows)
        arrays.append((representation, reader.gather("label", rows), rows))
    (train, labels, rows), (test, test_labels, _) = arrays
    synthetic = extract(backbone, pool_images(config), config.train)
    return Representation("student", train, labels, rows, test, test_labels), synthetic


def judge(config: Config) -> np.ndarray:
    """Features of the teacher's discriminator of the same synthetic images."""
    info = read_teacher_info(config.teacher_folder)
    discriminator = read_discriminator(config.teacher_folder / DISCRIMINATOR_FILE, info)
    backbone = DiscriminatorBackbone(discriminator, "multi", config.train)
    return extract(backbone, pool_images(config), config.train).array()


def pool_images(config: Config) -> SizedImages:
    return SizedImages(pool_shards(config, NUM_SAMPLES).open().images, 16)


def test_embed_all_has_the_four_spaces_of_the_pools_first_samples(
    config: Config, embeddings: Embeddings
) -> None:
    assert [space.name for space in embeddings.spaces] == SPACES
    pool = pool_shards(config, NUM_SAMPLES).open()
    names = [block.name for reader in pool.feature_sets for block in reader.schema.features]
    features = {
        "discriminator": judge(config),
        "w": pool.gather_features(["w"], np.arange(NUM_SAMPLES)),
        "generator": pool.gather_features(names, np.arange(NUM_SAMPLES)),
        "student": represent(config)[1].array(),
    }
    for space in embeddings.spaces:
        assert len(space.coordinates) == NUM_SAMPLES
        assert np.isfinite(space.coordinates).all()
        assert space.plane_agreement == plane_agreement(space.coordinates, embeddings.labels)
        found = features[space.name].astype(np.float32)
        assert found.shape[1] == space.num_dims
        assert space.agreement == space_agreement(found, embeddings.labels)
        np.testing.assert_array_equal(space.coordinates, embed(found, seed=2))


def test_embed_all_labels_are_those_of_the_students_probe(
    config: Config, embeddings: Embeddings
) -> None:
    real, synthetic = represent(config)
    expected = label_synthetic(real, synthetic.array(), seed=2)
    np.testing.assert_array_equal(embeddings.labels, expected.labels)
    assert embeddings.classifier_accuracy == expected.accuracy
    assert expected.protocol in embeddings.protocols
    assert embeddings.class_names == tuple("0123456789")


def test_embed_all_of_a_teacher_without_discriminator_has_a_space_less(
    config: Config, tmp_path: Path
) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(config.teacher_folder, teacher)
    description = json.loads((teacher / "teacher.json").read_text())
    (teacher / "teacher.json").write_text(json.dumps({**description, "discriminator": None}))
    changed = config.teacher.model_copy(update={"checkpoint": teacher})
    other = config.model_copy(update={"teacher": changed})
    _, synthetic = represent(other)
    found = embed_all(other, None, synthetic.take(np.arange(MIN_SAMPLES)), None, CPU)
    assert [space.name for space in found.spaces] == SPACES[1:]


def test_embed_all_without_labels_has_one_class_and_claims_no_agreement(
    config: Config, embeddings: Embeddings
) -> None:
    _, synthetic = represent(config)
    found = embed_all(config, None, synthetic, None, CPU)
    assert found.class_names == ("synthetic",)
    assert len(found.protocols) == 1
    for space, labelled in zip(found.spaces, embeddings.spaces, strict=True):
        np.testing.assert_array_equal(space.coordinates, labelled.coordinates)


def test_embed_all_of_a_pool_too_small_is_refused(config: Config) -> None:
    with pytest.raises(UserError, match=r"generate\.num_samples: 10 samples"):
        draw(config, 10)


def test_embed_all_with_another_teacher_than_the_pools_is_refused(
    config: Config, tmp_path: Path
) -> None:
    make_teacher(tmp_path / "other", seed=1)
    teacher = config.teacher.model_copy(update={"checkpoint": tmp_path / "other"})
    other = config.model_copy(update={"teacher": teacher})
    with pytest.raises(UserError, match="not the teacher that rendered the pool"):
        draw(other, NUM_SAMPLES)
