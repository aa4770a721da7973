"""The axes along which features vary independently: where a linear classifier is quickly fitted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_ROWS = 8192  # in float64 at a time
_MEAN_NUMBERS = 2**23  # as many


@dataclass(frozen=True)
class PrincipalAxes:
    """A rotation about the mean. It leaves a classifier with an L2 penalty and a bias without one
    as it is: centring moves the bias, and |W| is the same in any orthonormal basis.
    """

    mean: Tensor
    """[D] float64."""
    axes: Tensor
    """[D, R] float64, orthonormal."""
    variances: Tensor
    """[R] float64, positive."""

    @classmethod
    def of(cls, features: Tensor) -> PrincipalAxes:
        """Those of `features` [N, D], R at most D and N - 1: without the ones whose variance the
        features' type cannot tell from none, where the penalty holds all weights at zero.
        """
        num_rows, num_dims = features.shape
        width = max(16, _MEAN_NUMBERS // max(1, num_rows))  # all at once would be a copy in float64
        columns = features.split(width, 1)
        mean = torch.cat([part.mean(0, dtype=torch.float64) for part in columns])
        covariance = mean.new_zeros(num_dims, num_dims)
        for rows in features.split(_ROWS):
            centred = rows.double() - mean
            covariance.addmm_(centred.T, centred, alpha=1 / num_rows)
        return cls._of_covariance(mean, covariance)

    @classmethod
    def of_parts(cls, parts: Iterable[Tensor]) -> PrincipalAxes:
        """Those of all rows of `parts` [n, D] together, which are read once.

        Raises:
            ValueError: if a feature is not finite.
        """
        num_rows, shift, total, squares = 0, None, torch.zeros(0), torch.zeros(0)
        for part in parts:
            if shift is None:  # near the mean, so that no precision is lost to its square
                shift = part[:_ROWS].mean(0, dtype=torch.float64)
                total, squares = torch.zeros_like(shift), shift.new_zeros(len(shift), len(shift))
            for rows in part.split(_ROWS):
                moved = rows.double() - shift
                total += moved.sum(0)
                squares.addmm_(moved.T, moved)
                num_rows += len(rows)
        if shift is None or not (total.isfinite().all() and squares.isfinite().all()):
            raise ValueError("a feature is not finite")
        offset = total / num_rows
        return cls._of_covariance(
            shift + offset, (squares / num_rows).addr_(offset, offset, alpha=-1)
        )

    @classmethod
    def _of_covariance(cls, mean: Tensor, covariance: Tensor) -> PrincipalAxes:
        variances, axes = torch.linalg.eigh(covariance)
        smallest = torch.finfo(torch.float32).eps ** 2 * float(variances[-1])
        is_kept = variances > smallest
        return cls(mean, axes[:, is_kept], variances[is_kept])

    def standardised(self, scale: float) -> PrincipalAxes:
        """Of the same features less their mean, divided by `scale`."""
        return replace(self, mean=torch.zeros_like(self.mean), variances=self.variances / scale**2)

    def project(self, features: Tensor) -> Tensor:
        """[N, R + 1] of the type of `features` [N, D], ones last. In float64 on the way: the
        smallest components are differences of much larger numbers.
        """
        projected = features.new_ones(len(features), len(self.variances) + 1)
        for rows, out in zip(features.split(_ROWS), projected.split(_ROWS), strict=True):
            out[:, :-1] = (rows.double() - self.mean) @ self.axes
        return projected

    def rotate(self, weight: Tensor, bias: Tensor) -> Tensor:
        """`weight` [K, D] and `bias` [K] as weights [R + 1, K] of what `project` returns."""
        return torch.cat([self.axes.T @ weight.T, (bias + weight @ self.mean)[None]])

    def rotate_back(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The reverse of `rotate`."""
        weight = (self.axes @ weights[:-1]).T
        return weight, weights[-1] - weight @ self.mean
