from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.speed import train_step, view_rivals
from benchmarks.speed.train_rivals import LightlyVicReg
from pipeline.train.build import build_method
from pipeline.train.method import Batch, MethodContext
from pipeline.train.methods.vicreg import VicReg
from tests.support.tiny_benchmark import tiny_config

CPU = torch.device("cpu")


def test_train_step_benchmark_at_toy_size_measures_every_row_without_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_step, "find_spec", lambda _: None)
    (first, way), *_ = view_rivals.RIVALS.items()
    monkeypatch.setattr(view_rivals, "RIVALS", {first: way})

    table = train_step.benchmark(
        tiny_config(), num_samples=40, repeats=1, device=CPU, folder=tmp_path
    )

    assert {row[0]: row[2] for row in table.rows} == {
        "VICReg step": "",
        "squeeze and span, cached": "rendered online",
        "squeeze, cached": "rendered online",
        "augmentation": "torchvision v2 per image, CPU",
    }
    for _, ours, rival, theirs, _ in table.rows:
        assert float(str(ours).split()[0].replace(",", "")) > 0
        assert theirs == "" if rival == "" else float(theirs) > 0


def test_vicreg_step_of_lightly_starts_from_our_weights_and_trains() -> None:
    pytest.importorskip("lightly")
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    config = train_step.vicreg_config(tiny_config().train)
    rival = LightlyVicReg(
        config, images, CPU, num_steps=2, loader_workers=0, memory_format=torch.contiguous_format
    )
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
    config = train_step.vicreg_config(tiny_config().train)
    method = build_method(config, MethodContext([], lambda: pytest.fail("needs no teacher")))
    views = tuple(torch.randn(8, 3, 8, 8) for _ in range(2))

    loss = method(Batch((), views, None)).loss

    assert isinstance(method, VicReg)
    one, other = (method.projector(method.backbone(view)) for view in views)
    # the same sums in another order
    torch.testing.assert_close(loss, losses.VICRegLoss()(one, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", view_rivals.RIVALS)
def test_views_of_every_rival_have_the_layout_of_ours(name: str) -> None:
    package, prepare = view_rivals.RIVALS[name]
    pytest.importorskip(package)
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    config = tiny_config().train

    views = prepare(config, images, CPU)()

    assert views.shape == (5, 3, 8, 8)
    assert views.dtype == torch.float32
    low, high = (
        (bound - torch.tensor(config.pixel_mean)) / torch.tensor(config.pixel_std)
        for bound in (0, 1)
    )
    assert (views.amin((0, 2, 3)) >= low - 1e-5).all()
    assert (views.amax((0, 2, 3)) <= high + 1e-5).all()
