"""The three metrics of the transfer table, in percent, from one score per image and class (Ericsson
et al. 2021, section 4).

Neighbours: solvers choose the penalty by them, `evaluate.py` reports them.
"""

from __future__ import annotations

import numpy as np

from pipeline.eval.transfer.sets import Metric

RECALL_STEPS = 10


def score(metric: Metric, labels: np.ndarray, scores: np.ndarray) -> float:
    """`metric` in percent of `scores` [N, K] float, higher where a class is likelier.

    `labels` are int64 [N], for "11-point mAP" bool [N, K].
    """
    if metric == "11-point mAP":
        return mean_average_precision(labels, scores)
    correct = scores.argmax(1) == labels
    if metric == "top-1":
        return 100 * float(correct.mean())
    return 100 * float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of `average_precision` in percent, over the classes with a positive among `labels`."""
    shown = np.flatnonzero(labels.any(0))
    return 100 * float(np.mean([average_precision(labels[:, k], scores[:, k]) for k in shown]))


def average_precision(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """11-point interpolated average precision of one class (Everingham et al. 2010, section 4.2):
    the mean over recalls 0, 0.1, ..., 1 of the highest precision at that recall or above.

    `is_positive` bool [N] with a positive, `scores` [N]; equal scores are retrieved together. The
    release of Ericsson et al. counts precision 1 at recall 0, and compares recalls as rounded
    floats: it can be up to 1/11 higher, where the image with the highest score is no positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    is_last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    hits = np.cumsum(is_positive[order])[is_last_of_ties]
    precision = hits / (np.flatnonzero(is_last_of_ties) + 1)
    num_positives = hits[-1]
    best = [
        precision[RECALL_STEPS * hits >= step * num_positives].max()
        for step in range(RECALL_STEPS + 1)
    ]
    return float(np.mean(best))
