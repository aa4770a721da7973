"""Does the teacher copy its train images? Two tests on pixels, each against held-out real images:
C_T (Meehan et al. 2020), and the share of synthetic images that are nearest to a train one.

C_T asks whether synthetic images are closer to the train images than test images are. Those of a
generator of smooth or typical images are closer too, and it need not have copied; those of a bad
one are farther, and it may have. The share asks which real image a synthetic one is nearest to, and
is indifferent to both: for a generator that knows nothing of the split, train and test images are
exchangeable. In simulations with fresh images both were below p = 0.05 in 3 to 5 % of the cases.

Both take train and test images for draws of one distribution, so `measure_memorisation` also puts
some real train images in the place of the synthetic ones. The UCI digits, split by writer, fail
that: held-out train images look like copies to both tests (p < 1e-3), at random splits they do not.
The representation of a student trained on the train images may tell them apart too; raw pixels do
not by themselves. Distances are cosine, by `measures/knn.py`.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from statistics import NormalDist

import numpy as np
from sklearn.cluster import KMeans

from pipeline.measures.knn import nearest, normalised
from pipeline.results.ledger import Measurement
from pipeline.samples.seeding import numpy_generator

REPRESENTATION = "raw_pixels"
_COPYING, _SHARE = "memorisation_c_t", "memorisation_train_share"
TESTS = (_COPYING, f"{_COPYING}_control", _SHARE, f"{_SHARE}_control")
"""Of no copies, so that a small `p_value` finds some: C_T negative, the share large."""
MIN_CELL_SAMPLES = 20
MAX_CELLS = 50
NUM_PERMUTATIONS = 9999
_TEST_IMAGES_PER_CELL = 50
COPYING_PROTOCOL = (
    "C_T, cosine to the nearest of {train} train images, {test} test and {synthetic} synthetic "
    "images, {used} of {cells} k-means cells (seed {seed}) with at least {least} test and as many "
    "synthetic images; p one-sided, normal; interval: of the value without copying, 95 %"
)
SHARE_PROTOCOL = (
    "share of {synthetic} synthetic images whose nearest real image by cosine is one of {train} "
    "train, not of {test} test images; p one-sided, {permutations} permutations of train and test "
    "images (seed {seed}); interval: of the value without copying, 95 %"
)

CONTROL = "control, with a random third of the train images for synthetic ones"


class TooFewImagesError(ValueError):
    """No cell has enough images for C_T, or for its control."""


def measure_memorisation(
    train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, *, seed: int
) -> list[Measurement]:
    """`TESTS` of the images `train` [T, D], `test` [N, D] and `synthetic` [M, D]: each test, and as
    its control the same with a third of the train images in the place of the synthetic ones and the
    rest as train images. Where the value of a control is outside its interval, train and test
    images are no draws of one distribution, and the tests find the split and not, or not only, the
    teacher's copies.

    Raises:
        TooFewImagesError: if there are too few images for one of them.
        ValueError: if a value is not finite.
    """
    rows = numpy_generator(seed, "eval/memorisation/control").permutation(len(train))
    held_out, rest = train[rows[: len(train) // 3]], train[rows[len(train) // 3 :]]
    found = []
    for measure in (measure_copying, measure_train_share):
        control = measure(rest, test, held_out, seed=seed)
        found += [
            measure(train, test, synthetic, seed=seed),
            replace(
                control,
                metric=f"{control.metric}_control",
                protocol=f"{CONTROL}: {control.protocol}",
            ),
        ]
    return found


def measure_copying(
    train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, *, seed: int
) -> Measurement:
    """C_T of representations `train` [T, D], `test` [N, D] and `synthetic` [M, D], Meehan et al.
    2020: the mean over k-means cells of the train images, weighted by their test images,
    of the Mann-Whitney z of both sets' distances to the nearest train image.

    Departures: the nearest train image may lie in another cell, where a copy's never does; cells
    need `MIN_CELL_SAMPLES` of either set; and p takes the weights' square sum as C_T's variance.

    Raises:
        TooFewImagesError: if no cell has enough images.
        ValueError: if a representation is not finite.
    """
    num_cells = min(max(len(test) // _TEST_IMAGES_PER_CELL, 1), MAX_CELLS)
    state = int(numpy_generator(seed, "eval/memorisation/cells").integers(2**31))
    cells = KMeans(num_cells, n_init=1, random_state=state).fit(normalised(train))
    of_test, of_synthetic = (cells.predict(normalised(array)) for array in (test, synthetic))
    near_test, near_synthetic = (nearest(array, train, 1)[0][:, 0] for array in (test, synthetic))
    scores, weights = [], []
    for cell in range(num_cells):
        held_out, made = near_test[of_test == cell], near_synthetic[of_synthetic == cell]
        if min(len(held_out), len(made)) >= MIN_CELL_SAMPLES:
            scores.append(-mann_whitney(made, held_out))  # more similar is less distant
            weights.append(len(held_out))
    if not scores:
        raise TooFewImagesError(
            f"no cell has {MIN_CELL_SAMPLES} of {len(test)} test and {len(synthetic)} synthetic "
            "images: too few to test for copies"
        )
    statistic = float(np.average(scores, weights=weights))
    deviation = sqrt(sum(weight**2 for weight in weights)) / sum(weights)
    protocol = COPYING_PROTOCOL.format(
        train=len(train),
        test=len(test),
        synthetic=len(synthetic),
        used=len(scores),
        cells=num_cells,
        seed=seed,
        least=MIN_CELL_SAMPLES,
    )
    margin = 1.96 * deviation
    return Measurement(
        metric=_COPYING,
        value=statistic,
        low=-margin,
        high=margin,
        expected=0.0,
        p_value=NormalDist().cdf(statistic / deviation),
        seed=seed,
        representation=REPRESENTATION,
        protocol=protocol,
    )


def measure_train_share(
    train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, *, seed: int
) -> Measurement:
    """Share of `synthetic` [M, D] that are nearer to one of `train` [T, D] than to all of `test`
    [N, D], which is T / (T + N) on average without memorisation; if a share f are copies and the
    rest are not, about f + (1 - f) T / (T + N).

    Tested by permuting which of the T + N real images are train images. Counting synthetic images
    alone would take those around one real image for independent.

    Raises:
        ValueError: if a representation is not finite.
    """
    real = np.concatenate([train, test])
    closest = nearest(synthetic, real, 1)[1][:, 0]
    counts = np.bincount(closest, minlength=len(real))  # synthetic images of each real one
    share = counts[: len(train)].sum() / len(synthetic)
    values, colours = np.unique(counts, return_counts=True)
    generator = numpy_generator(seed, "eval/memorisation/permutations")
    drawn = generator.multivariate_hypergeometric(
        colours, len(test), NUM_PERMUTATIONS, method="marginals"
    )
    shares = 1 - drawn @ values / len(synthetic)
    low, high = np.quantile(shares, [0.025, 0.975])
    rounding = 1e-12
    p_value = (1 + (shares >= share - rounding).sum()) / (1 + NUM_PERMUTATIONS)
    protocol = SHARE_PROTOCOL.format(
        train=len(train),
        test=len(test),
        synthetic=len(synthetic),
        permutations=NUM_PERMUTATIONS,
        seed=seed,
    )
    return Measurement(
        metric=_SHARE,
        value=float(share),
        low=float(low),
        high=float(high),
        expected=len(train) / len(real),
        p_value=float(p_value),
        seed=seed,
        representation=REPRESENTATION,
        protocol=protocol,
    )


def mann_whitney(first: np.ndarray, second: np.ndarray) -> float:
    """The normal score of the Mann-Whitney U of `first` [M] over `second` [N]: about N(0, 1) if
    both are of one distribution, large if `first` is larger. Ties count half; its variance is not
    corrected for them, which errs towards 0.
    """
    second = np.sort(second)
    below = np.searchsorted(second, first, "left").sum()
    up_to = np.searchsorted(second, first, "right").sum()
    num_pairs = len(first) * len(second)
    variance = num_pairs * (len(first) + len(second) + 1) / 12
    return float(((below + up_to) / 2 - num_pairs / 2) / sqrt(variance))
