"""The controller of adaptive augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.teacher.training.ada import AdaController


def logits(value: float, count: int = 10) -> Tensor:
    return torch.full((count, 1), value)


def test_ada_controller_overconfident_discriminator_raises_p_to_one_and_no_further() -> None:
    ada = AdaController(target=0.6, num_images=100, interval=1)
    values = []
    for _ in range(40):
        ada.update(logits(3.0), 10)
        ada.settle()
        values.append(ada.p)
    assert max(values) == 1
    steps = np.diff([0.0, *values])
    assert np.abs(steps).max() <= 10 / 100 + 1e-9
    rising = values.index(max(values))
    assert (steps[rising - 5 : rising + 1] > 0).all()


def test_ada_controller_unsure_discriminator_lowers_p_to_zero_and_no_further() -> None:
    ada = AdaController(target=0.6, num_images=100, interval=1)
    ada.p = 0.5
    for _ in range(20):
        ada.update(logits(-1.0), 10)
        ada.settle()
    assert ada.p == 0


def test_ada_controller_settles_where_the_sign_meets_its_target() -> None:
    ada = AdaController(target=0.6, num_images=1000, interval=4)
    generator = torch.Generator().manual_seed(0)
    values = []
    for _ in range(2000):
        sign = 1.0 - ada.p  # a discriminator that augmentation fools more and more
        chosen = torch.rand(10, 1, generator=generator) < (1 + sign) / 2
        ada.update(torch.where(chosen, 1.0, -1.0), 10)
        ada.settle()
        values.append(ada.p)
    assert np.mean(values[1000:]) == pytest.approx(0.4, abs=0.1)
