"""A teacher's training with networks that torch.compile has captured: the plain one's numbers, and
nothing is captured again.
"""

from __future__ import annotations

import pytest
import torch

from pipeline.config.teacher import TeacherConfig
from pipeline.teacher.training.step import TeacherTrainer

pytestmark = pytest.mark.slow

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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of its look
@pytest.mark.parametrize(("pipe", "skips"), [("bgc", "orig"), ("upright", "resnet")])
def test_teacher_training_captures_no_graph_after_its_first_step(
    pipe: str, skips: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda network, **_: compiled(network, backend=note, dynamic=False)
    )
    torch.compiler.reset()
    config = CONFIG.model_copy(
        update={
            "ada_pipe": pipe,
            "discriminator_skips": skips,
            "style_mixing_p": 0.5,
            "ada_interval": 100,
        }
    )
    trainer = TeacherTrainer(config, 16, torch.device("cpu"), "default")
    real = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    trainer.step(real)
    # each network as a whole: with and without a graph of gradients, or of its weights' gradients
    assert len(graphs) == 4
    for p in (0.0, 0.0, 0.0, 0.3, 0.3, 1.0, 0.0):
        trainer.ada.p = p
        trainer.step(real.contiguous(memory_format=torch.channels_last))
    assert len(graphs) == 4
