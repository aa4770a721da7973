"""Feature spaces, their weights files, and how distances in them follow corruption."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from pipeline.measures.distances import Moments, frechet_distance, kernel_distance
from pipeline.teacher.quality import FeatureSpace, build_feature_space
from shards.errors import UserError

CPU = torch.device("cpu")
# every 22nd feature of one image
GOLDEN = [0.5797, 0.22364, 0.68123, 0.26414, 1.70098, 1.08155, 0.14679, 0.48974, 0.31328, 0.0, 0.0]
GOLDEN += [2.54918, 0.91066, 1.42645, 0.20298, 1.28515, 0.3389, 2.32981, 0.55259, 1.02668, 0.05923]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def digits() -> Tensor:
    """[1797, 1, 16, 16] uint8."""
    images = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] * (255 / 16)
    return F.interpolate(images, size=16, mode="bilinear").round().to(torch.uint8)


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    return build_feature_space(None, CPU)


def blur(images: Tensor, times: int) -> Tensor:
    x = images.float()
    for _ in range(times):
        x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
    return x.to(torch.uint8)


def add_noise(images: Tensor, strength: int) -> Tensor:
    x = images + normal(*images.shape) * 8 * strength
    return x.clamp(0, 255).to(torch.uint8)


def average_pairs(images: Tensor, strength: int) -> Tensor:
    x = images.float()
    return x.lerp(x.roll(1, 0), 0.12 * strength).to(torch.uint8)


def repeat_few(images: Tensor, strength: int) -> Tensor:
    kept = images[: len(images) // 8**strength]
    return kept.repeat(-(-len(images) // len(kept)), 1, 1, 1)[: len(images)]


@pytest.mark.slow
@pytest.mark.parametrize("corrupt", [blur, add_noise, average_pairs, repeat_few])
def test_distances_grow_with_the_corruption_of_digits(
    space: FeatureSpace, corrupt: Callable[[Tensor, int], Tensor]
) -> None:
    images = digits()[torch.randperm(1797, generator=torch.Generator().manual_seed(0))]
    real, other = space(images[:800]), images[800:1600]
    sets = [space(other), *(space(corrupt(other, strength)) for strength in (1, 2, 3))]
    expected = Moments.from_features(real)
    frechet = [frechet_distance(Moments.from_features(features), expected) for features in sets]
    kernel = [kernel_distance(features, real) for features in sets]
    assert (np.diff(frechet) > 0).all(), frechet
    assert (np.diff(kernel) > 0).all(), kernel


def test_build_feature_space_is_the_same_after_any_global_seed() -> None:
    images = digits()[:4]
    torch.manual_seed(0)
    first = build_feature_space(None, CPU)(images)
    torch.manual_seed(123)
    state = torch.get_rng_state()
    second = build_feature_space(None, CPU)(images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(second, first, rtol=0, atol=0)


def test_random_convnet_features_stay_what_they_were(space: FeatureSpace) -> None:
    images = torch.arange(3 * 16 * 16).reshape(1, 3, 16, 16).mul(7).remainder(256).to(torch.uint8)
    found = space(images)[0]
    # Stored distances are worth nothing once these change; 1e-4: sums run in another order.
    expected = torch.tensor(GOLDEN)
    torch.testing.assert_close(found[3::22], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("resolution", [4, 16, 64])
def test_feature_space_gives_named_float32_features_at_any_size(
    space: FeatureSpace, resolution: int
) -> None:
    images = torch.randint(256, (3, 3, resolution, resolution)).to(torch.uint8)
    features = space(images)
    assert (space.name, space.num_features) == ("random-convnet", features.shape[1])
    assert features.dtype == torch.float32
    assert not features.requires_grad
    torch.testing.assert_close(space(images[1:2]), features[1:2], rtol=1e-4, atol=1e-4)


def test_feature_space_grey_images_are_repeated_to_three_channels(space: FeatureSpace) -> None:
    grey = digits()[:5]
    torch.testing.assert_close(space(grey), space(grey.repeat(1, 3, 1, 1)), rtol=0, atol=0)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 8, 8), torch.zeros(2, 2, 8, 8).byte(), torch.zeros(3, 8, 8).byte()]
)
def test_feature_space_other_images_are_refused(space: FeatureSpace, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"not .*uint8"):
        space(images)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"garbage",
        saved({"fc.weight": torch.zeros(2)}),
        saved([1, 2]),
        saved({"fc.weight": Path("executable")}),  # a pickle that wants more than tensors
    ],
    ids=["missing", "empty", "garbage", "other keys", "no dict", "other types"],
)
def test_build_feature_space_unusable_weights_are_named(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pth.*weights-inception-2015-12-05"):
        build_feature_space(path, CPU)


@pytest.mark.slow
def test_build_feature_space_of_an_inception_file_gives_its_2048_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # the class builds itself from a file only
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = FeatureExtractorInceptionV3(
            "inception", ["2048"], feature_extractor_weights_path=io.BytesIO(saved({}))
        )
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    space = build_feature_space(tmp_path / "weights.pth", CPU)
    images = torch.randint(256, (2, 3, 16, 16)).to(torch.uint8)
    assert (space.name, space.num_features) == ("inception", 2048)
    (expected,) = network(images)
    found = space(images)
    assert found.shape == (2, 2048)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
