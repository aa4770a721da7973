"""Every built-in method: what it computes, against references; and that it can be trained."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.train.data import TrainingShards
from pipeline.train.losses import (
    OFFICIAL,
    PAPER,
    STUDENT_ONLY,
    LossWeights,
    covariance_loss,
    regularised_alignment,
    variance_loss,
)
from pipeline.train.methods.squeeze_and_span import SqueezeAndSpan
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import (
    METHODS,
    changed,
    config_of,
    in_double,
    make_method,
    open_stream,
    pairs,
    parts_of,
    shards_of,
)

WEIGHTS = LossWeights(25.0, 20.0, 1.5)


@pytest.mark.parametrize("name", METHODS)
def test_method_learns_from_its_batches(name: str, training_shards: TrainingShards) -> None:
    """Ten steps on one batch bring the loss down, and every parameter has its share in that."""
    config = config_of(name)
    shards = shards_of(config, training_shards)
    batch = open_stream(shards, config).batch(0)
    sizes = {"synthetic": config.num_synthetic, "real": config.num_real}
    for domain, views in (("synthetic", batch.synthetic), ("real", batch.real)):
        assert [len(view) for view in views] == [sizes[domain]] * len(views)
        assert bool(views) == bool(sizes[domain])
    method = make_method(config, shards.block_channels)
    optimizer = torch.optim.SGD(method.parameter_groups(), lr=1e-3, momentum=0.9)
    losses = []
    for _ in range(10):
        output = method(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0]
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None, parameter_name
    metrics = output.metrics()
    assert metrics["loss"] == losses[-1]
    assert all(math.isfinite(value) for value in metrics.values())
    assert len([key for key in metrics if key.endswith("_effective_rank")]) >= 1


@pytest.mark.parametrize("name", METHODS)
def test_method_trains_the_same_initial_backbone(name: str) -> None:
    """So that rows of a table differ by their method alone."""
    first = make_method(TRAIN_CONFIG, [12, 12, 8]).backbone.state_dict()
    found = make_method(config_of(name), [12, 12, 8]).backbone.state_dict()
    torch.testing.assert_close(found, first, rtol=0, atol=0)


def test_unused_domains_are_not_read(training_shards: TrainingShards) -> None:
    batch = open_stream(training_shards, config_of("vicreg real")).batch(0)
    assert batch.synthetic == ()
    assert batch.pooled is None


# Conventions


def test_conventions_are_what_they_are_called() -> None:
    first, second = pairs()
    mse = (first - second).square().mean()
    variances = variance_loss(first), variance_loss(second)
    covariances = covariance_loss(first), covariance_loss(second)
    expected = {
        PAPER: (sum(variances), sum(covariances)),
        OFFICIAL: (sum(variances) / 2, sum(covariances)),
        STUDENT_ONLY: (variances[0], covariances[0]),
    }
    for convention, (variance, covariance) in expected.items():
        found = regularised_alignment(first, second, WEIGHTS, convention).total
        torch.testing.assert_close(found, 25 * mse + 20 * variance + 1.5 * covariance)


def test_vicreg_official_equals_lightlys_loss() -> None:
    lightly = pytest.importorskip("lightly.loss", reason="pip install lightly")
    for seed in range(3):
        first, second = pairs(rows=32, width=48, seed=seed)
        theirs = lightly.VICRegLoss(25.0, 20.0, 1.5)(first, second)
        ours = regularised_alignment(first, second, WEIGHTS, OFFICIAL).total
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convention", ["paper", "official", "release"])
def test_vicreg_is_the_objective_on_pairs_of_views_of_all_images(
    convention: str, training_shards: TrainingShards
) -> None:
    config = changed(TRAIN_CONFIG, method={"name": "vicreg", "convention": convention})
    batch = in_double(open_stream(shards_of(config, training_shards), config).batch(0))
    method = make_method(config).double()
    output = method(batch)
    both = zip(batch.synthetic, batch.real, strict=True)
    first, second = (method.projector(method.backbone(torch.cat(pair))) for pair in both)
    weights = LossWeights(25.0, 25.0, 1.0)
    expected = regularised_alignment(
        first, second, weights, OFFICIAL if convention == "official" else PAPER
    )
    torch.testing.assert_close(output.loss, expected.total)


# Squeeze and span, less and less of it


def test_vanilla_distillation_predicts_the_features_themselves(
    training_shards: TrainingShards,
) -> None:
    config = config_of("vanilla")
    method = make_method(config, training_shards.block_channels).double()
    batch = in_double(open_stream(training_shards, config).batch(0))
    output = method(batch)
    embedding = method.projector(method.backbone(*batch.synthetic))
    assert batch.pooled is not None
    assert embedding.shape == batch.pooled.shape
    torch.testing.assert_close(output.loss, 25 * F.mse_loss(embedding, batch.pooled))


def test_squeeze_alone_is_the_squeeze_objective_whatever_the_share(
    training_shards: TrainingShards,
) -> None:
    config = config_of("squeeze")
    method = make_method(config, training_shards.block_channels).double()
    assert isinstance(method, SqueezeAndSpan)
    batch = in_double(open_stream(training_shards, config).batch(0))
    output = method(batch)
    embedding = method.projector(method.backbone(*batch.synthetic))
    assert batch.pooled is not None
    expected = regularised_alignment(
        embedding, method.squeeze(batch.pooled), LossWeights(25.0, 25.0, 1.0)
    )
    torch.testing.assert_close(output.loss, expected.total)
    assert not any(name.startswith("span") for name in output.metrics())


def test_release_does_not_regularise_the_squeezed_features(
    training_shards: TrainingShards,
) -> None:
    released, printed = config_of("release"), config_of("squeeze and span")
    batch = in_double(open_stream(training_shards, released).batch(0))
    outputs = []
    for config in (released, printed):
        method = make_method(config, training_shards.block_channels).double()
        outputs.append(method(batch))
        squeezed = outputs[-1].embeddings["squeezed"]
    extra = 25 * variance_loss(squeezed) + covariance_loss(squeezed)
    torch.testing.assert_close(outputs[1].loss - outputs[0].loss, 0.5 * extra)


def test_release_gives_all_synthetic_images_the_same_augmentation(
    training_shards: TrainingShards,
) -> None:
    augment = {"crop_scale": (0.3, 0.3), "jitter_p": 0, "grayscale_p": 0, "flip_p": 0.5}
    config = changed(TRAIN_CONFIG, variant="release", augment=augment)
    stream = open_stream(training_shards, config)
    (views,) = stream.batch(3).synthetic
    again = torch.cat(
        [open_stream(training_shards, config, rank, 2).batch(3).synthetic[0] for rank in (0, 1)]
    )
    torch.testing.assert_close(views, again, rtol=0, atol=1e-5)


# Batch normalisation

PASSES = {
    "squeeze and span": ["synthetic 0", "real 0", "real 1"],
    "vicreg both": ["synthetic 0, real 0", "synthetic 1, real 1"],
    "simsiam real": ["real 0", "real 1"],
    "encoding both": ["synthetic 0", "real 0"],
}


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("batch_norm", ["separate", "joint"])
def test_student_sees_domains_and_views_apart_or_together(
    name: str, batch_norm: str, training_shards: TrainingShards
) -> None:
    config = changed(config_of(name), batch_norm=batch_norm)
    shards = shards_of(config, training_shards)
    batch = open_stream(shards, config).batch(0)
    parts = parts_of(batch)
    expected = [torch.cat([parts[part] for part in these.split(", ")]) for these in PASSES[name]]
    if batch_norm == "joint":
        expected = [torch.cat(expected)]
    method = make_method(config, shards.block_channels)
    seen: list[Tensor] = []
    method.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method(batch)
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)


def test_statistics_of_separate_passes_are_of_one_domain_and_view_each(
    training_shards: TrainingShards,
) -> None:
    """What another domain looks like changes nothing for a view but through the weights."""
    outputs = {}
    for batch_norm in ("separate", "joint"):
        config = changed(TRAIN_CONFIG, batch_norm=batch_norm)
        batch = open_stream(training_shards, config).batch(0)
        darker = replace(batch, real=tuple(view * 0.1 for view in batch.real))
        method = make_method(config, training_shards.block_channels)
        outputs[batch_norm] = [method(b).embeddings["synthetic"] for b in (batch, darker)]
    torch.testing.assert_close(*outputs["separate"], rtol=0, atol=0)
    assert not torch.allclose(*outputs["joint"], rtol=1e-2)
