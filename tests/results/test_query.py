"""Choosing numbers by field, and gathering them over seeds of the evaluation or over trainings."""

from __future__ import annotations

import pytest

from pipeline.results.query import group, parse_filters, select
from shards.errors import UserError
from tests.support.ledger_numbers import draws, number, trainings

NUMBERS = [
    *draws([66.0, 64.0, 71.0]),
    number(),
    number(73.0, probe="knn", protocol="cosine, k = 10"),
    number(75.0, run="wide", probe="knn", protocol="cosine, k = 20", student_digest="b" * 64),
]


@pytest.mark.parametrize(
    ("filters", "values"),
    [
        (["probe=knn"], [73.0, 75.0]),
        (["probe=knn", "run=wide"], [75.0]),
        (["run=wide", "run=digits", "labels=all"], [83.25, 73.0, 75.0]),
        (["student_digest=bb"], [75.0]),
        (["protocol=K = 20"], [75.0]),
        (["seed=2"], [71.0]),
        (["commit=none", "probe=knn"], [73.0, 75.0]),
        ([], [66.0, 64.0, 71.0, 83.25, 73.0, 75.0]),
    ],
)
def test_select_keeps_numbers_with_all_wanted_values(
    filters: list[str], values: list[float]
) -> None:
    assert [n.value for n in select(NUMBERS, parse_filters(filters))] == values


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prob=knn", "prob: no such field; did you mean probe?"),
        ("qqq=1", "there are run, method"),
        ("digits", "field=value"),
        ("probe=liner", "did you mean linear?"),
        ("labels=10", "there are 10_per_class, all"),
        ("seed=", "seed=: no number has that"),
    ],
)
def test_filter_with_a_typo_says_what_there_is(text: str, words: str) -> None:
    with pytest.raises(UserError) as raised:
        select(NUMBERS, parse_filters([text]))
    assert words in str(raised.value)


def test_group_gathers_seeds_of_one_measurement_and_nothing_else() -> None:
    groups = group(NUMBERS)
    assert [len(found.numbers) for found in groups] == [3, 1, 1, 1]
    assert groups[0].values == {0: 66.0, 1: 64.0, 2: 71.0}
    assert groups[0].summary.mean == 67.0


@pytest.mark.parametrize(
    "field", ["protocol", "split_digest", "metric", "dataset", "task", "representation", "run"]
)
def test_group_never_joins_numbers_that_differ_in_more_than_the_seed(field: str) -> None:
    both = [number(50.0), number(60.0, seed=1, **{field: "another"})]
    assert [found.summary.mean for found in group(both)] == [50.0, 60.0]


def test_group_takes_the_later_of_the_same_measurement() -> None:
    again = [*draws([66.0, 64.0]), *draws([67.0, 64.0, 80.0], minutes=5)]
    (found,) = group(list(reversed(again)))
    assert found.values == {0: 67.0, 1: 64.0, 2: 80.0}


def test_group_keeps_students_of_one_run_apart() -> None:
    both = [*draws([50.0, 52.0]), *draws([60.0, 62.0], student_digest="b" * 64)]
    assert [found.summary.mean for found in group(both)] == [51.0, 61.0]


def test_group_over_trainings_first_takes_the_mean_of_every_trainings_draws() -> None:
    """Three draws of two trainings are two values, not six."""
    numbers = [
        *draws([50.0, 52.0, 54.0], run="a-seed0"),
        *draws([60.0, 60.0, 63.0], run="a-seed1", train_seed=1, student_digest="b" * 64),
    ]
    (found,) = group(numbers, over_trainings=True)
    assert found.values == {0: 52.0, 1: 61.0}
    assert found.summary.std == pytest.approx(((52 - 56.5) ** 2 + (61 - 56.5) ** 2) ** 0.5)
    assert len(group(numbers)) == 2


def test_group_over_trainings_keeps_other_trainings_apart() -> None:
    numbers = [*trainings("a", [50.0, 52.0]), *trainings("b", [70.0, 72.0], training_digest="8")]
    assert [found.summary.mean for found in group(numbers, True)] == [51.0, 71.0]


def test_group_over_trainings_of_the_same_training_twice_counts_it_once() -> None:
    numbers = [number(50.0), number(50.0, run="copy", minutes=1)]
    (found,) = group(numbers, over_trainings=True)
    assert found.summary.num_values == 1


def test_group_over_trainings_of_what_is_not_trained_is_over_its_draws() -> None:
    nothing = {"train_seed": None, "student_digest": None, "training_digest": None}
    numbers = [
        *draws([83.0, 85.0], run="a", representation="raw_pixels", **nothing),
        *draws([83.0, 85.0], run="b", representation="raw_pixels", **nothing),
    ]
    (found,) = group(numbers, over_trainings=True)
    assert found.values == {0: 83.0, 1: 85.0}
    assert not found.over_trainings


def test_group_takes_a_remark_at_the_end_of_a_protocol_for_no_other_protocol() -> None:
    numbers = [
        number(50.0, protocol="cosine, k = 10"),
        number(60.0, seed=1, protocol="cosine, k = 10 [searched by torch]"),
        number(70.0, seed=2, protocol="cosine, k = [10] neighbours"),
    ]
    assert [found.values for found in group(numbers)] == [{0: 50.0, 1: 60.0}, {2: 70.0}]
