from __future__ import annotations

import pytest
import torch

from benchmarks.speed.profiling import covered, measure_gpu_use, profile_operators

CPU = torch.device("cpu")


def test_covered_time_counts_overlaps_once() -> None:
    assert covered([]) == 0
    assert covered([(5.0, 7.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5), (3.0, 4.0)]) == 6


def test_profile_finds_the_operators_of_a_task_longest_first() -> None:
    x = torch.ones(64, 64)

    def task() -> None:
        x @ x
        x @ x[:, :1]

    operators = profile_operators(task, CPU)
    seconds = [operator.seconds for operator in operators]
    assert seconds == sorted(seconds, reverse=True)
    assert {o.name: o.num_calls for o in operators if o.name == "aten::mm"} == {"aten::mm": 2}


def test_use_of_a_gpu_is_not_measured_on_a_cpu() -> None:
    assert measure_gpu_use(lambda: pytest.fail("is not run"), 1, CPU) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_use_of_a_gpu_by_products_is_high_and_by_waiting_low() -> None:
    device = torch.device("cuda")
    x = torch.ones(4096, 4096, device=device)
    small = torch.ones(1, device=device)

    busy = measure_gpu_use(lambda: [x @ x for _ in range(10)], 5, device)
    idle = measure_gpu_use(lambda: [small.add(1).item() for _ in range(10)], 5, device)

    assert busy is not None
    assert idle is not None
    assert busy.busy_share > 0.8 > 0.5 > idle.busy_share > 0
    assert busy.kernels_per_step >= 10
    assert idle.kernels_per_step == idle.launches_per_step == 10
