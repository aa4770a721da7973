"""The domain gap between real and synthetic images in a representation: their squared maximum mean
discrepancy (Yang et al. 2022, Table 6), with the kernel, interval and protocol beside the number.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pipeline.measures.distances import cubic_kernel, rbf_kernel, squared_mmd
from pipeline.results.ledger import Measurement
from pipeline.samples.seeding import numpy_generator

KernelName = Literal["cubic", "rbf"]
KERNELS: tuple[KernelName, ...] = get_args(KernelName)
_BANDWIDTH_SAMPLES = 1000
_QUANTILE = 1.96  # of the normal distribution, for 95 %
PROTOCOL = (
    "unbiased squared MMD, {kernel}; {counts}; float64; interval of 95 %: ± 1.96 standard errors "
    "by the jackknife over the samples of both sets"
)
_COUNTS = "{num_real} of {all_real} real and {num_synthetic} of {all_synthetic} synthetic images"


def measure_domain_gap(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    kernel: KernelName,
    seed: int,
    max_samples: int,
    device: torch.device,
) -> Measurement:
    """Squared MMD between the student's representations `real` [N, D] and `synthetic` [M, D], with
    its 95 % interval; one around 0 is what two sets of one distribution give.

    `cubic` is (x·y / D + 1)³, which Bińkowski et al. 2018 use for KID: it grows with up to the
    sixth power of the representation's scale, so that it compares domains in one representation
    but not two representations with each other. `rbf` is exp(-|x - y|² / (2 s²)) with s the median
    distance (Gretton et al. 2012, section 8), indifferent to the scale; the interval takes s as
    given.

    The interval is too wide for equal distributions and a little too narrow for unequal ones of few
    samples: in simulations with 120 to 400 samples of normal, heavy-tailed and clustered
    distributions it held the true value in 91 to 99 % of the cases, and in 95 % with 1,500. Most
    misses lie below the truth. A t interval over 10 blocks held it as often (92 to 97 %) at 1.7 to
    2.7 times the width.

    Of each set at most `max_samples` are drawn by `seed`: time grows with the square.

    Raises:
        ValueError: for fewer than three samples, or if a feature is not finite.
    """
    x, y = (
        _draw(array, max_samples, seed, domain).to(device)
        for array, domain in ((real, "real"), (synthetic, "synthetic"))
    )
    if min(len(x), len(y)) < 3:
        raise ValueError(f"an interval needs three samples of each set, not {len(x)} and {len(y)}")
    name, bandwidth = "cubic kernel (x·y / D + 1)³", None
    if kernel == "rbf":
        bandwidth, count = median_distance(x, y, seed)
        name = (
            f"RBF kernel exp(-|x - y|² / (2 s²)), s the median distance between "
            f"any two of {count} real and {count} synthetic images"
        )
    found = squared_mmd(x, y, cubic_kernel if bandwidth is None else rbf_kernel(bandwidth))
    margin = _QUANTILE * found.standard_error
    counts = _COUNTS.format(
        num_real=len(x), all_real=len(real), num_synthetic=len(y), all_synthetic=len(synthetic)
    )
    return Measurement(
        metric=f"squared_mmd_{kernel}",
        value=found.value,
        low=found.value - margin,
        high=found.value + margin,
        seed=seed,
        protocol=PROTOCOL.format(kernel=name, counts=f"{counts}, drawn with seed {seed}"),
    )


def _draw(array: np.ndarray, max_samples: int, seed: int, domain: str) -> Tensor:
    """`max_samples` rows of `array`, or all, as they are."""
    if len(array) > max_samples:
        rows = numpy_generator(seed, f"eval/mmd/{domain}").permutation(len(array))[:max_samples]
        array = array[np.sort(rows)]
    return torch.from_numpy(np.ascontiguousarray(array))


def median_distance(x: Tensor, y: Tensor, seed: int) -> tuple[float, int]:
    """The median distance between two of the pooled samples, as many of each set, and how many that
    is; 1 where it is 0, as of a constant representation.
    """
    count = min(len(x), len(y), _BANDWIDTH_SAMPLES)
    generator = numpy_generator(seed, "eval/mmd/bandwidth")
    rows = [torch.from_numpy(generator.permutation(len(part))[:count]) for part in (x, y)]
    pooled = torch.cat([part[index.to(x.device)] for part, index in zip((x, y), rows, strict=True)])
    median = float(torch.pdist(pooled.double()).quantile(0.5))
    return median or 1.0, count
