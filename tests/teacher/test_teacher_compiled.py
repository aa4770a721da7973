"""A teacher's training step with networks that torch.compile has captured, beside the plain one."""

from __future__ import annotations

import pytest
import torch

from pipeline.teacher.train import TeacherTrainer
from pipeline.teacher_config import TeacherConfig

CONFIG = TeacherConfig(
    z_dim=8,
    w_dim=8,
    channel_base=64,
    channel_max=8,
    mbstd_group_size=4,
    global_batch=8,
    r1_gamma=0.5,
    r1_interval=2,
    path_length_weight=2.0,
    path_length_interval=2,
    ada_images=100,
    ada_interval=1,
)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of its look
def test_teacher_step_captured_equals_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(3, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = TeacherTrainer(CONFIG, 16, torch.device("cpu"))
    compiled = torch.compile

    # up to the code that it writes, which takes minutes on a CPU
    def capture(network: torch.nn.Module, **_: object) -> object:
        return compiled(network, backend="aot_eager", dynamic=False)

    monkeypatch.setattr(torch, "compile", capture)
    captured = TeacherTrainer(CONFIG, 16, torch.device("cpu"), "default")
    for real in images:
        expected, found = plain.step(real), captured.step(real)
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
    assert captured.ada.p == plain.ada.p
