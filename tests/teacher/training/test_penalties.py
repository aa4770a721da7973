"""The gradient penalties against explicit Jacobians, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.teacher.training.penalties import path_lengths, r1_penalty


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def score(image: Tensor, weight: Tensor) -> Tensor:
    """A logit [1] of one image [C, R, R], not linear in it."""
    return ((image * weight).tanh() * image).sum()[None]


def test_r1_penalty_is_half_the_mean_squared_gradient_norm() -> None:
    images, weight = draw(3, 2, 4, 4).requires_grad_(), draw(2, 4, 4, seed=1)
    found = r1_penalty(torch.stack([score(image, weight) for image in images]), images)
    total = 0.0
    for image in images.detach():
        jacobian = torch.autograd.functional.jacobian(lambda x: score(x, weight), image)
        total += sum(float(entry) ** 2 for entry in jacobian.flatten())
    assert abs(found.item() - total / 3 / 2) < 1e-9


def test_r1_penalty_gradient_passes_the_finite_difference_check() -> None:
    def penalty(weight: Tensor) -> Tensor:
        images = draw(2, 1, 3, 3).requires_grad_()
        return r1_penalty(torch.stack([score(image, weight) for image in images]), images)

    assert torch.autograd.gradcheck(penalty, (draw(1, 3, 3, seed=1).requires_grad_(),))


def synthesise(ws: Tensor, weight: Tensor) -> Tensor:
    """Images [B, 2, 4, 4] of `ws` [B, 3, 5], each copy of w in its own way."""
    return torch.einsum("bnd,ndchw->bchw", ws.tanh(), weight)


def test_path_lengths_are_the_norms_of_the_jacobians_products() -> None:
    ws, weight = draw(3, 3, 5).requires_grad_(), draw(3, 5, 2, 4, 4, seed=1)
    noise = draw(3, 2, 4, 4, seed=2)
    found = path_lengths(synthesise(ws, weight), ws, noise)
    for b in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda w: synthesise(w[None], weight)[0], ws.detach()[b]
        )  # [2, 4, 4, 3, 5]
        product = torch.einsum("chwnd,chw->nd", jacobian, noise[b] / 4)
        squares = [sum(float(x) ** 2 for x in copy) for copy in product]
        assert abs(found[b].item() - (sum(squares) / 3) ** 0.5) < 1e-9


def test_path_lengths_gradient_passes_the_finite_difference_check() -> None:
    noise = draw(2, 2, 4, 4, seed=2)

    def lengths(weight: Tensor) -> Tensor:
        ws = draw(2, 3, 5).requires_grad_()
        return path_lengths(synthesise(ws, weight), ws, noise)

    assert torch.autograd.gradcheck(lengths, (draw(3, 5, 2, 4, 4, seed=1).requires_grad_(),))
