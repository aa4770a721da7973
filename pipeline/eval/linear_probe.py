"""Linear probe: multinomial logistic regression by L-BFGS on frozen representations,
scikit-learn's.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

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


@dataclass(frozen=True)
class FittedProbe:
    """A linear layer on centred and scaled representations."""

    model: LogisticRegression | GridSearchCV
    mean: np.ndarray
    scale: float

    def predict(self, representations: np.ndarray) -> np.ndarray:
        """Labels [M] of `representations` [M, D]."""
        predicted: np.ndarray = self.model.predict(self._scaled(representations))
        return predicted

    def predict_probabilities(self, representations: np.ndarray) -> np.ndarray:
        """Probabilities [M, K] float64 of the K classes that it was fitted on, in rising order."""
        probabilities: np.ndarray = self.model.predict_proba(self._scaled(representations))
        return probabilities

    @property
    def classes(self) -> np.ndarray:
        """Their labels, [K]."""
        classes: np.ndarray = self.model.classes_
        return classes

    def _scaled(self, representations: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = (representations - self.mean) / self.scale
        return scaled


def fit_linear_probe(train: np.ndarray, labels: np.ndarray, *, seed: int) -> FittedProbe:
    """The probe of `train` [N, D] with `labels` [N].

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
    return FittedProbe(model, mean, scale)


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, seed: int
) -> np.ndarray:
    """Predicted labels [M] of `test` [M, D] by a probe fitted on `train` [N, D] and `labels`
    [N].
    """
    return fit_linear_probe(train, labels, seed=seed).predict(test)
