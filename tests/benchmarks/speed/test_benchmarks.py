from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measure import publish
from benchmarks.speed import probe, render, roofline, stream, train_step, view_rivals
from benchmarks.speed.reference_stylegan2 import relative_difference
from benchmarks.speed.stream_samples import KINDS, open_pool, read_samples, write_pool
from benchmarks.speed.train_ours import PARTS, vicreg_config
from benchmarks.speed.train_rivals import LightlyVicReg
from pipeline.config.file import load_config
from pipeline.config.method import SqueezeAndSpanConfig
from pipeline.config.root import Config
from pipeline.teacher.architecture import StyleGAN2Architecture
from pipeline.train.build import build_method
from pipeline.train.method import Batch, MethodContext
from pipeline.train.methods.vicreg import VicReg

CPU = torch.device("cpu")


def tiny_arch(**changes: float) -> StyleGAN2Architecture:
    sizes = {"resolution": 16, "z_dim": 8, "w_dim": 12, "num_mapping_layers": 2}
    return StyleGAN2Architecture(**{**sizes, "channel_base": 128, "channel_max": 16, **changes})  # type: ignore[arg-type]


def tiny_config() -> Config:
    return Config.model_validate(
        {
            "name": "tiny",
            "real": {"resolution": 8},
            "teacher": {"z_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8},
            "generate": {"samples_per_shard": 24},
            "train": {"global_batch": 8, "student": {"width": 4, "embedding_dim": 16}},
        }
    )


@pytest.mark.parametrize("conv_clamp", [None, 0.5])
def test_reference_form_of_the_same_generator_gives_equal_images_and_features(
    conv_clamp: float | None,
) -> None:
    generator = render.build_random_generator(tiny_arch(conv_clamp=conv_clamp), CPU).double()
    renderers = render.build_renderers(generator, batch=3, dtype=torch.float64)

    for ours, reference in zip(renderers["ours"](), renderers["reference"](), strict=True):
        assert relative_difference(ours, reference) < 1e-6


def test_equality_check_refuses_forms_that_differ() -> None:
    generator = render.build_random_generator(tiny_arch(), CPU)
    renderers = render.build_renderers(generator, batch=2)
    image, pooled = renderers["reference"]()

    with pytest.raises(ValueError, match="differ"):
        render.check_equal({**renderers, "reference": lambda: (image, pooled * 1.001)})


def test_count_of_operations_equals_that_of_the_papers_convolutions() -> None:
    arch = tiny_arch(resolution=8, channel_base=32, channel_max=4)
    renderers = render.build_renderers(render.build_random_generator(arch, CPU), batch=2)
    channels, w_dim, z_dim = 4, arch.w_dim, arch.z_dim

    convolutions = (
        9 * channels**2 * (4**2 + 4**2 + 8**2)
    )  # b4.conv1, b8.conv0 on its input, b8.conv1
    fir = 16 * channels * 8**2 + 16 * 3 * 4**2  # after b8.conv0, and of the image on its input
    to_rgb = 3 * channels * (4**2 + 8**2)
    linear = z_dim * w_dim + w_dim**2 + 5 * w_dim * channels
    expected = 2 * (convolutions + fir + to_rgb + linear) / 1e9

    assert render.count_gflop(renderers["reference"], batch=2) == pytest.approx(expected)


def test_render_benchmark_at_toy_size_writes_its_figures(tmp_path: Path) -> None:
    sizes = ["--resolution", "8", "--channel-base", "32", "--channel-max", "4"]
    common = ["--batch", "2", "--repeats", "1", "--device", "cpu", "--json", str(tmp_path)]

    render.main([*sizes, *common])

    found = json.loads((tmp_path / "render.json").read_text())
    assert set(found) >= {"figures", "command", "commit", "versions", "device", "seconds"}
    assert all(figure["rate"] > 0 for figure in found["figures"])


def test_train_step_benchmark_at_toy_size_measures_every_figure_without_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "has_lightly", lambda: False)
    monkeypatch.setattr(view_rivals, "RIVALS", view_rivals.RIVALS[:1])

    run = train_step.benchmark(
        tiny_config(), num_samples=40, repeats=1, device=CPU, folder=tmp_path
    )

    shares = run.details["shares of time of squeeze and span"]
    assert list(shares) == list(PARTS)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    assert all(figure.rate > 0 for figure in run.figures)
    assert {figure.name: figure.rival for figure in run.figures} == {
        "VICReg step": None,
        "squeeze and span, cached": "rendered online",
        "squeeze, cached": "rendered online",
        "augmentation": "torchvision v2 per image, CPU",
        "reading, in one thread": None,
    }


def test_roofline_at_toy_size_sets_every_part_beside_its_floor(tmp_path: Path) -> None:
    run = roofline.benchmark(
        tiny_config(), num_samples=40, repeats=1, device=CPU, folder=tmp_path / "shards"
    )
    publish(run, tmp_path, started=0.0)

    found = json.loads((tmp_path / "roofline.json").read_text())["tables"]
    parts = {row["part"]: row for row in found["parts and their floors"]}
    assert list(parts) == [
        "render, float32",
        "loader: gather (host)",
        "views: draw (host)",
        "views: make",
        "student: step",
        *(f"student: {name}" for name in PARTS),
        "teacher: step",
        "teacher: with penalties",
    ]
    for row in parts.values():
        floor = max(row["arithmetic ms"], row["memory ms"])
        assert row["ms"] > 0
        assert row["floor %"] == pytest.approx(100 * floor / row["ms"])
    for column in ("GFLOP", "MB"):
        whole = parts["student: step"][column]
        assert whole == pytest.approx(sum(parts[f"student: {name}"][column] for name in PARTS))
    assert parts["student: backward"]["GFLOP"] > parts["student: forward"]["GFLOP"]
    assert parts["teacher: with penalties"]["GFLOP"] > parts["teacher: step"]["GFLOP"]
    for step in ("student: step", "teacher: step"):
        operators = found[step]
        assert len(operators) == 10
        assert sorted((row["ms"] for row in operators), reverse=True) == [
            row["ms"] for row in operators
        ]
        assert any("conv" in row["operator"] for row in operators)


def test_vicreg_step_of_lightly_starts_from_our_weights_and_trains() -> None:
    pytest.importorskip("lightly")
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    config = vicreg_config(tiny_config().train)
    rival = LightlyVicReg(config, images, CPU, num_steps=2, loader_workers=0, channels_last=False)
    before = [parameter.clone() for parameter in rival.model.parameters()]
    ours = build_method(config, MethodContext([], lambda: pytest.fail("needs no teacher")))

    rival.run()

    assert isinstance(ours, VicReg)
    for (name, mine), theirs in zip(ours.backbone.named_parameters(), before, strict=False):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, msg=name)
    shapes = [parameter.shape for parameter in ours.projector.parameters()]
    head = [p.shape for name, p in rival.model[1].named_parameters()]
    assert head == [*shapes, shapes[-1][:1]]  # its last layer has a bias
    assert len(rival.loader) == 2
    assert any(
        not torch.equal(old, new) for old, new in zip(before, rival.model.parameters(), strict=True)
    )


def test_vicreg_config_has_the_objective_of_lightlys_loss() -> None:
    losses = pytest.importorskip("lightly.loss.vicreg_loss")
    config = vicreg_config(tiny_config().train)
    method = build_method(config, MethodContext([], lambda: pytest.fail("needs no teacher")))
    views = tuple(torch.randn(8, 3, 8, 8) for _ in range(2))

    loss = method(Batch((), views, None)).loss

    assert isinstance(method, VicReg)
    one, other = method.projector(method.backbone(torch.cat(views))).chunk(2)
    # the same sums in another order
    torch.testing.assert_close(loss, losses.VICRegLoss()(one, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rival", view_rivals.RIVALS, ids=lambda rival: rival.name)
def test_views_of_every_rival_have_the_layout_of_ours(rival: view_rivals.Rival) -> None:
    if not rival.is_installed:
        pytest.skip(f"{rival.package} is not installed")
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    config = tiny_config().train

    views = rival.prepare(config, images, CPU)()

    assert views.shape == (5, 3, 8, 8)
    assert views.dtype == torch.float32
    low, high = (
        (bound - torch.tensor(config.pixel_mean)) / torch.tensor(config.pixel_std)
        for bound in (0, 1)
    )
    assert (views.amin((0, 2, 3)) >= low - 1e-5).all()
    assert (views.amax((0, 2, 3)) <= high + 1e-5).all()


@pytest.mark.parametrize("kind", ["raw", "jpg"])
def test_stream_benchmark_at_toy_size_reads_every_sample_without_rivals(
    kind: str, tmp_path: Path
) -> None:
    sizes = ["--kinds", kind, "--num-samples", "32", "--batch", "4", "--cores", "1"]

    run = stream.main([*sizes, "--tools", "ours", "--repeats", "1", "--json", str(tmp_path)])

    (figure,) = run.figures
    assert figure.rate > 0
    assert figure.rival is None
    assert (tmp_path / "stream.json").exists()


def test_stream_benchmark_converts_the_samples_of_the_pool(tmp_path: Path) -> None:
    kind = KINDS["jpg"].resized(4, 2)
    write_pool(kind, tmp_path)
    samples = list(read_samples(kind, tmp_path))

    images = open_pool(kind, tmp_path).images.gather("image", np.arange(4))

    assert [sample.index for sample in samples] == [0, 1, 2, 3]
    for sample, image in zip(samples, images, strict=True):
        assert isinstance(sample.image, bytes)
        pixels = np.asarray(Image.open(io.BytesIO(sample.image))).transpose(2, 0, 1)
        np.testing.assert_array_equal(pixels, image)


def test_probe_benchmark_at_toy_size_compares_the_choice_of_both_sides(tmp_path: Path) -> None:
    sizes = ["--num-samples", "400", "--num-dims", "12", "--classes", "3", "--num-penalties", "6"]

    run = probe.main([*sizes, "--device", "cpu", "--max-iter", "1000", "--json", str(tmp_path)])

    (figure,) = run.figures
    assert figure.ratio is not None
    assert figure.rival == "lbfgs, 1000 iterations"
    ours, theirs = (run.details[f"3 classes, {name}"] for name in ("ours", figure.rival))
    assert ours["C"] == theirs["C"]
    assert ours["validation %"] == theirs["validation %"]
    # scikit-learn's is not below the optimum by more than our tolerance and float32
    assert theirs["at least"] > -1e-5
    assert (tmp_path / "probe.json").exists()


def test_cifar_config_has_the_papers_values() -> None:
    config = load_config(Path("configs/cifar10.yaml"))

    assert (config.train.epochs, config.train.global_batch, config.train.learning_rate) == (
        800,
        512,
        0.03,
    )
    assert config.train.method == SqueezeAndSpanConfig()
    assert (config.teacher.channel_base, config.teacher.num_images) == (32768, 25_000_000)
    assert config.teacher_folder == Path("runs/cifar10/teacher")
