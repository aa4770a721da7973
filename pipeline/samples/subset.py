"""Some rows of each class, drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def class_sizes(labels: np.ndarray) -> dict[int, int]:
    """Label -> how many of `labels` [N] have it, rising; -1, of rows without one, counts as one."""
    found, sizes = np.unique(labels, return_counts=True)
    return {int(label): int(size) for label, size in zip(found, sizes, strict=True)}


def share_out(total: int, sizes: Mapping[int, int]) -> dict[int, int]:
    """`total` divided among classes in proportion to their `sizes`, at least one each, by largest
    remainders.

    Raises:
        ValueError: for fewer than one each, or more than there are.
    """
    num_rows = sum(sizes.values())
    if not len(sizes) <= total <= num_rows:
        raise ValueError(f"{total} of {num_rows} rows of {len(sizes)} classes")
    beyond_one = max(num_rows - len(sizes), 1)
    quotas = {
        label: (total - len(sizes)) * (size - 1) / beyond_one for label, size in sizes.items()
    }
    counts = {label: 1 + int(quota) for label, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda label: int(quotas[label]) - quotas[label])
    for label in by_remainder[: total - sum(counts.values())]:
        counts[label] += 1
    return counts


def draw_of_each(
    labels: np.ndarray, counts: Mapping[int, int], generator: np.random.Generator
) -> np.ndarray:
    """Rows of `labels` [N], so many of each label as `counts` says, sorted."""
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rows.append(generator.permutation(members)[: counts[int(label)]])
    return np.sort(np.concatenate(rows))
