"""Representations of a data set -> one number of the transfer table, by logistic regression.

Neighbours: `features.py` makes the representations, `eval/logistic/` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.eval.logistic.choose_penalty import GRID, Labelled, choose_and_fit
from pipeline.eval.logistic.regression import LogisticFit
from pipeline.eval.transfer.features import PREPROCESSING, LabelledRepresentations, TransferFeatures
from pipeline.eval.transfer.result import TransferResult
from pipeline.eval.transfer.scores import score
from pipeline.eval.transfer.sets import Metric, transfer_set

PROTOCOL = (
    f"{PREPROCESSING}; multinomial logistic regression (one-vs-rest for VOC2007), L2, C = 1/lambda "
    "for 45 lambda from 1e-6 to 1e5 by the data set's metric on validation images (official, else "
    "20 % of train), fitted again on train and validation; Ericsson et al. 2021"
)


def evaluate_transfer(
    features: TransferFeatures, device: torch.device, grid: Sequence[float] = GRID
) -> TransferResult:
    """Fit a probe to `features` on `device` and score it on the test images."""
    listed = transfer_set(features.name)
    fit = fit_probe(features, listed.metric, device, grid)
    test = features.test
    logits = fit.scores(torch.from_numpy(test.representations).to(device)).cpu().numpy()
    parts = (features.train, features.val, test)
    num_train, num_val, num_test = (len(part.labels) for part in parts)
    return TransferResult(
        listed.name,
        listed.metric,
        score(listed.metric, test.labels, logits),
        fit.C,
        num_train,
        num_val,
        num_test,
        num_train + num_val + num_test == listed.num_images,
        features.split_digest,
        PROTOCOL,
    )


def fit_probe(
    features: TransferFeatures, metric: Metric, device: torch.device, grid: Sequence[float]
) -> LogisticFit:
    """The regression with the C of `grid` that is best by `metric` on the validation images, fitted
    on them and the train images: a multinomial one, or one for each class of a multi-label data
    set, with one C. Of equally good ones the largest C.
    """
    train, val = (_on_device(part, device) for part in (features.train, features.val))
    is_multi_label = train.labels.ndim == 2
    largest = max(int(part.labels.max()) for part in (train, val))
    return choose_and_fit(
        train,
        val,
        lambda scores, labels: _percent(metric, scores, labels),
        num_classes=train.labels.shape[1] if is_multi_label else largest + 1,
        device=device,
        grid=sorted(grid, reverse=True),  # of equals it takes the first
    ).fit


def _on_device(part: LabelledRepresentations, device: torch.device) -> Labelled:
    arrays = (part.representations, part.labels.astype(np.int64))
    return Labelled(*(torch.from_numpy(array).to(device) for array in arrays))


def _percent(metric: Metric, scores: Tensor, labels: Tensor) -> float:
    wanted = labels.cpu().numpy()
    wanted = wanted.astype(bool) if wanted.ndim == 2 else wanted
    return score(metric, wanted, scores.cpu().numpy())
