"""The choice of C for rows that stay on disk: on draws of rising size, each of which starts from
the weights and the C of the one before.

How strong a penalty is best depends on the number of rows, so that a small draw alone does not
tell: of features made like a network's (512 dimensions, 100 classes) 5,000 rows want C = 0.1,
40,000 rows 0.01, and C = 0.1 would cost them two points; 2,500 rows want no penalty at all. The
best of a quarter of the rows is near that of all, and so are its weights. Neighbour:
`probes/streamed_probe.py` says which rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.eval.logistic.choose_penalty import GRID
from pipeline.eval.logistic.lbfgs import Limit, Rounds, Solution, minimise
from pipeline.eval.logistic.principal_axes import PrincipalAxes
from pipeline.eval.logistic.regression import TOLERANCE, LogisticFit
from pipeline.eval.logistic.streamed import LabelledRows, StreamedObjective, percent_right

CHOOSING, FINAL = 1e-4, 1e-5
"""Excess that ends a fit, as a share of the loss of knowing only how frequent the classes are."""
_DECADE = 4  # places in `GRID`
ROUNDS = Rounds(4, 25)  # fresh units earlier: with hardly a penalty half the passes


@dataclass(frozen=True)
class Found:
    """Where the search has come to."""

    percent: float
    """Right of the rows that are held out."""
    place: int
    """Of its C in `GRID`."""
    weights: Tensor
    """[R + 1, K] float64."""


_Fitter = Callable[[int, Tensor], Found]
"""The fit with the C at a place in `GRID`, started from weights."""


class PenaltySearch:
    """Fits in the same `axes`, each measured on `held`.

    Args:
        axes: principal axes of all rows as they are read.
        held: rows to measure on, in none of those to fit.
        shares: [K] float64, of the classes among all rows.
    """

    def __init__(self, axes: PrincipalAxes, held: LabelledRows, shares: Tensor) -> None:
        self._axes = axes
        self._held = held
        self._num_held = len(held)
        self._shares = shares
        self._loss_of_shares = float(torch.special.entr(shares).sum())

    def look_everywhere(self, rows: LabelledRows) -> Found:
        """The best decade of the whole grid."""
        fit = self._fitter(rows)
        weights = self._shares.new_zeros(len(self._axes.variances) + 1, len(self._shares))
        weights[-1] = self._shares.log()
        strongest = fit(len(GRID) - 1, weights)
        return self._go(fit, strongest, strongest, -_DECADE, math.inf)

    def look_around(self, rows: LabelledRows, begun: Found) -> Found:
        """The best half decade: decades both ways from `begun` while they are worse by no more than
        chance may make them, then halves. Of few rows in many classes all weak penalties are about
        as good, and the best may be far from there.
        """
        fit = self._fitter(rows)
        start = best = fit(begun.place, begun.weights)
        for step in (_DECADE, -_DECADE):
            best = self._go(fit, best, start, step, self._noise(best.percent))
        return self._climb(fit, best, _DECADE // 2)

    def climb(self, rows: LabelledRows, begun: Found) -> Found:
        """The best from neighbour to neighbour."""
        fit = self._fitter(rows)
        return self._climb(fit, fit(begun.place, begun.weights), 1)

    def finish(self, rows: LabelledRows, found: Found) -> LogisticFit:
        """The fit of `rows` with the C that was found."""
        objective = StreamedObjective(rows, self._axes)
        solution = self._minimise(objective, len(rows), found.place, found.weights, FINAL)
        weight, bias = self._axes.rotate_back(solution.weights)
        point, C = solution.point, GRID[found.place]
        is_converged = point.excess <= self._limit(FINAL).at(point.value)
        return LogisticFit(
            weight, bias, C, point.value, point.excess, solution.num_passes, is_converged
        )

    def _climb(self, fit: _Fitter, best: Found, step: int) -> Found:
        """The stronger penalty first."""
        stronger = self._go(fit, best, best, step, 0.0)
        return self._go(fit, best, best, -step, 0.0) if stronger is best else stronger

    def _go(self, fit: _Fitter, best: Found, at: Found, step: int, margin: float) -> Found:
        """The best on the way from `at`, which ends at one that is not above the best less
        `margin`.
        """
        while 0 <= at.place + step < len(GRID):
            at = fit(at.place + step, at.weights)
            if at.percent <= best.percent - margin:
                break
            best = at if at.percent > best.percent else best
        return best

    def _noise(self, percent: float) -> float:
        """Two standard errors and two samples, in points."""
        return 2 * math.sqrt(percent * (100 - percent) / self._num_held) + 200 / self._num_held

    def _fitter(self, rows: LabelledRows) -> _Fitter:
        objective, num_rows = StreamedObjective(rows, self._axes), len(rows)

        def fit(place: int, start: Tensor) -> Found:
            solution = self._minimise(objective, num_rows, place, start, CHOOSING)
            percent = percent_right(self._held, objective.as_read(solution.weights))
            return Found(percent, place, solution.weights)

        return fit

    def _minimise(
        self, objective: StreamedObjective, num_rows: int, place: int, start: Tensor, excess: float
    ) -> Solution:
        # |W|² of two opposite halves is half of |w|²
        halves = 2 if start.shape[1] == 2 else 1
        penalty = halves / (num_rows * GRID[place])
        begun = Solution(start, objective.at(start, penalty), 1)
        return minimise(objective, begun, penalty, self._limit(excess), ROUNDS)

    def _limit(self, excess: float) -> Limit:
        return Limit(TOLERANCE, excess * self._loss_of_shares)
