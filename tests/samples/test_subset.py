"""Some rows of each class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.samples.subset import class_sizes, draw_of_each, share_out

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=8)


@given(SIZES, st.data())
def test_share_out_is_proportional_to_within_one_and_leaves_no_class_out(
    sizes: list[int], data: st.DataObject
) -> None:
    by_label = dict(enumerate(sizes))
    total = data.draw(st.integers(len(sizes), sum(sizes)))
    counts = share_out(total, by_label)
    assert sum(counts.values()) == total
    assert all(1 <= counts[label] <= size for label, size in by_label.items())
    rest = max(sum(sizes) - len(sizes), 1)
    for label, size in by_label.items():
        quota = 1 + (total - len(sizes)) * (size - 1) / rest
        assert abs(counts[label] - quota) < 1 + 1e-9


@pytest.mark.parametrize("total", [1, 6])
def test_share_out_of_less_than_one_each_or_more_than_there_are_is_refused(total: int) -> None:
    with pytest.raises(ValueError, match=f"{total} of 5 rows of 2 classes"):
        share_out(total, {0: 2, 1: 3})


def test_draw_of_each_has_the_counts_in_order_and_is_another_for_another_seed() -> None:
    labels = np.random.default_rng(0).integers(-1, 3, 200)
    counts = {label: 4 + label for label in class_sizes(labels)}
    draws = [draw_of_each(labels, counts, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert class_sizes(labels[draws[0]]) == counts
    assert draws[0].tolist() == sorted(draws[0].tolist())
    assert draws[0].tolist() == draws[1].tolist() != draws[2].tolist()
