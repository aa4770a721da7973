"""L-BFGS for an objective that tells its Hessian's diagonal: every weight is measured in units of
its curvature, and a run ends where the minimum is near enough.

Neighbours: `linear_loss.py` and `streamed.py` have the objectives, `regression.py` the fits.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.eval.logistic.linear_loss import ObjectiveAt

_HISTORY = 10
_REACHED = 1e-8  # the tolerance in the optimiser's units: above its absolute thresholds, of 1e-10


@dataclass(frozen=True)
class Rounds:
    """Runs of L-BFGS, each with units of its own, as curvature changes along the way."""

    count: int = 10
    iterations: int = 100
    """Of each; few fits need more than 20."""


_ROUNDS = Rounds()


class Function(Protocol):
    """What is minimised."""

    def at(self, weights: Tensor, penalty: float) -> ObjectiveAt:
        """Everything at `weights` [R + 1, K] float64, of which the last row has no penalty."""


@dataclass(frozen=True)
class Limit:
    """Excess that is small enough."""

    share: float
    """Of the objective."""
    least: float
    """At any rate."""

    def at(self, value: float) -> float:
        """What is small enough where the objective is `value`."""
        return max(self.share * value, self.least)


@dataclass(frozen=True)
class Solution:
    """Weights and what the objective is there."""

    weights: Tensor
    """[R + 1, K] float64."""
    point: ObjectiveAt
    num_passes: int
    """Evaluations up to here."""


class _Reached(Exception):
    """The optimiser may stop: it has no other way to be told."""


def minimise(
    objective: Function, begun: Solution, penalty: float, limit: Limit, rounds: Rounds = _ROUNDS
) -> Solution:
    """From `begun` until the excess is within `limit`, the `rounds` are over, or one gains too
    little to go on.
    """
    solution = begun
    for _ in range(rounds.count):
        if solution.point.excess <= limit.at(solution.point.value):
            break
        value_before = solution.point.value
        solution = _run_lbfgs(objective, solution, penalty, limit, rounds.iterations)
        if solution.point.value > value_before - limit.at(value_before):
            break  # the precision of the features' type is spent
    return solution


def _run_lbfgs(
    objective: Function, begun: Solution, penalty: float, limit: Limit, iterations: int
) -> Solution:
    """The best point of one run of L-BFGS, in units of the curvature where it begins."""
    scale = _REACHED / limit.at(begun.point.value)
    units = (scale * begun.point.diagonal.double()).rsqrt()
    parameters = (begun.weights / units).requires_grad_()
    best, num_passes = begun, begun.num_passes
    known: ObjectiveAt | None = begun.point  # the optimiser's first question

    @torch.no_grad()
    def evaluate() -> Tensor:
        nonlocal best, num_passes, known
        weights = parameters * units
        num_passes += known is None
        point, known = known or objective.at(weights, penalty), None
        is_reached = point.excess <= limit.at(point.value)
        if is_reached or point.value <= best.point.value:
            best = Solution(weights, point, num_passes)
        if is_reached:
            raise _Reached
        parameters.grad = scale * point.gradient * units
        return weights.new_tensor(scale * point.value)

    optimiser = torch.optim.LBFGS(
        [parameters],
        max_iter=iterations,
        max_eval=2 * iterations,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    with suppress(_Reached):
        optimiser.step(evaluate)
    return Solution(best.weights, best.point, num_passes)
