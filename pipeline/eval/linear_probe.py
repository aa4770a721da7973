"""Linear probe: multinomial logistic regression by L-BFGS on frozen representations,
scikit-learn's.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
NUM_FOLDS = 5
PROTOCOL = (
    "multinomial logistic regression, L-BFGS, L2; representations centred and divided by one "
    "scale; C of "
    f"{', '.join(f'{c:g}' for c in INVERSE_PENALTIES)} by {NUM_FOLDS}-fold cross-validation on the "
    "given labels"
)


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int
) -> np.ndarray:
    """Predicted labels [M] of `test` [M, D] by a probe fitted on `train` [N, D] and `labels` [N].

    The scale is a single number, so that C means the same for every representation and no dimension
    is blown up. `seed` shuffles the folds.
    """
    mean = train.mean(0)
    scale = np.sqrt(np.square(train - mean).mean()) + 1e-12
    num_folds = min(NUM_FOLDS, int(np.bincount(labels)[np.unique(labels)].min()))
    model = LogisticRegression(C=1.0, max_iter=300, tol=1e-3)
    if num_folds > 1:
        folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"C": INVERSE_PENALTIES}, cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # the weakest penalties of the grid may not converge
        model.fit((train - mean) / scale, labels)
    predicted: np.ndarray = model.predict((test - mean) / scale)
    return predicted
