"""What a linear probe's scores are worth: the three metrics of Ericsson et al. 2021's transfer
protocol, in percent.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_curve
from torch import Tensor

_ROUNDING = 1e-9  # a recall of 3/10 reaches the threshold 0.3, whatever floats make of both


def top1(scores: Tensor, labels: Tensor) -> float:
    """Percentage of rows of `scores` [M, K] whose largest score is that of `labels` [M]."""
    return 100 * float((scores.argmax(1) == labels.to(scores.device)).double().mean())


def mean_per_class(scores: Tensor, labels: Tensor) -> float:
    """Mean over the classes in `labels` [M] of the percentage of their rows of `scores` [M, K] in
    which their score is the largest; a class without a row does not count.
    """
    labels = labels.to(scores.device)
    is_correct = (scores.argmax(1) == labels).double()
    present = labels.unique()
    return 100 * float(sum(is_correct[labels == label].mean() for label in present) / len(present))


def eleven_point_map(scores: Tensor, labels: Tensor) -> float:
    """Mean over classes of the 11-point interpolated average precision of `scores` [M, K] for
    `labels` [M, K], 0 or 1, several of which may be 1 (Everingham et al. 2010, section 4.2).

    Equal scores are one point of the curve. The curve starts at the best-ranked score, as in the
    challenge's own code; Ericsson et al.'s adds a precision of 1 at recall 0.

    Raises:
        ValueError: if a class has no positive, so that its recall is undefined.
    """
    missing = (labels.sum(0) == 0).nonzero().flatten().tolist()
    if missing:
        raise ValueError(f"no sample is of class {missing[0]}: it has no average precision")
    pairs = zip(scores.T.cpu().numpy(), labels.T.cpu().numpy(), strict=True)
    return 100 * float(np.mean([_eleven_point_precision(*pair) for pair in pairs]))


def _eleven_point_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last is scikit-learn's 1 at recall 0
    return float(
        np.mean([precision[recall + _ROUNDING >= level / 10].max() for level in range(11)])
    )
