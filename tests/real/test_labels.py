"""Labels as sources have them -> numbers of classes that both splits share."""

from __future__ import annotations

import pytest

from pipeline.real.labels import number_classes
from pipeline.real.listing import Listing
from shards.errors import UserError

SHAPES = ("circle", "square", "triangle")


def folders(*labels: str) -> Listing:
    """A folder, whose labels are names."""
    return listing(labels, has_numbers=False)


def numbers(*labels: int | str) -> Listing:
    """Tars or a zip, whose labels are numbers of classes, or else names."""
    return listing(tuple(map(str, labels)), has_numbers=True)


def named(names: tuple[str, ...], *labels: int) -> Listing:
    """A Parquet file that names its classes."""
    return listing(tuple(map(str, labels)), has_numbers=True, names=names)


def listing(
    labels: tuple[str, ...], has_numbers: bool, names: tuple[str, ...] | None = None
) -> Listing:
    return Listing("x", 9, "0" * 64, tuple(sorted(labels)), has_numbers, names, 0, {}, ())


def meanings(train: Listing, test: Listing | None = None) -> dict[str, dict[str, str]]:
    """Label -> name of the class, by split."""
    splits = {"train": train} if test is None else {"train": train, "test": test}
    classes = number_classes(splits)
    return {
        split: {label: classes.names[number] for label, number in known.items()}
        for split, known in classes.numbers.items()
    }


def test_names_of_folders_are_classes_in_their_order() -> None:
    classes = number_classes({"train": folders("dog", "cat"), "test": folders("dog")})
    assert classes.names == ("cat", "dog")
    assert classes.numbers == {"train": {"cat": 0, "dog": 1}, "test": {"dog": 1}}


def test_folders_named_by_numbers_are_sorted_as_numbers_and_none_is_added() -> None:
    classes = number_classes({"train": folders("10", "2", "7")})
    assert classes.names == ("2", "7", "10")
    assert classes.numbers["train"] == {"2": 0, "7": 1, "10": 2}


def test_numbers_of_classes_stay_what_they_are_where_some_have_no_images() -> None:
    classes = number_classes({"train": numbers(0, 3)})
    assert classes.names == ("0", "1", "2", "3")
    assert classes.numbers["train"] == {"0": 0, "3": 3}


def test_names_that_a_source_gives_stay_in_its_order() -> None:
    classes = number_classes({"train": named(("b", "a"), 1)})
    assert classes.names == ("b", "a")
    assert classes.numbers["train"] == {"1": 1}


def test_texts_of_tars_are_names() -> None:
    assert number_classes({"train": numbers("dog", "cat")}).names == ("cat", "dog")


SAME = [
    (folders(*SHAPES), numbers(0, 2), {"0": "circle", "2": "triangle"}),
    (folders(*SHAPES), named(SHAPES, 0, 2), {"0": "circle", "2": "triangle"}),
    (folders(*SHAPES), named(SHAPES[::-1], 0), {"0": "triangle"}),
    (folders(*SHAPES), numbers("square"), {"square": "square"}),
    (named(SHAPES, 0, 1, 2), folders("square"), {"square": "square"}),
    (named(SHAPES, 0, 1, 2), numbers(1), {"1": "square"}),
    (named(SHAPES, 0, 1, 2), named(SHAPES[::-1], 0), {"0": "triangle"}),
    (numbers(0, 1, 2), named(SHAPES, 1), {"1": "square"}),
    (folders("1", "2", "10"), numbers(2, 10), {"2": "2", "10": "10"}),
    (named(("1", "2", "3"), 0, 1, 2), numbers(0, 1), {"0": "1", "1": "2"}),
    (named(("1", "2", "3"), 0, 1, 2), folders("1"), {"1": "1"}),
    (numbers(0, 1, 2), folders("0", "2"), {"0": "0", "2": "2"}),
]


@pytest.mark.parametrize(("train", "test", "expected"), SAME)
def test_classes_of_the_splits_agree_across_formats(
    train: Listing, test: Listing, expected: dict[str, str]
) -> None:
    assert meanings(train, test)["test"] == expected


def test_numbers_of_the_train_split_get_the_names_that_the_test_split_knows() -> None:
    assert meanings(numbers(0, 1, 2), named(SHAPES, 1))["train"] == {
        "0": "circle",
        "1": "square",
        "2": "triangle",
    }
    days = ("1", "2", "3")
    assert meanings(numbers(0, 1, 2), named(days, 1))["train"] == {"0": "1", "1": "2", "2": "3"}


@pytest.mark.parametrize(
    ("train", "test", "stranger"),
    [
        (folders("cat", "dog"), folders("cat", "yak"), "yak"),
        (folders("cat", "dog"), named(("cat", "yak"), 0, 1), "yak"),
        (folders("cat", "dog"), numbers(0, 2), "2"),
        (folders("1", "2", "10"), numbers(1, 3), "3"),
        (folders("1", "2"), numbers(0, 1), "0"),
        (numbers(0, 1, 2), folders("circle"), "circle"),
        (named(("cat", "dog"), 0), numbers(2), "2"),
    ],
)
def test_class_that_the_train_images_do_not_have_is_named(
    train: Listing, test: Listing, stranger: str
) -> None:
    with pytest.raises(UserError, match=rf"real\.test: .*{stranger!r}.*; add train") as raised:
        number_classes({"train": train, "test": test})
    assert "\n" not in str(raised.value)


def test_label_beyond_the_names_of_its_source_is_named() -> None:
    with pytest.raises(UserError, match=r"real\.label_field: label 2 of a train.* 2 classes"):
        number_classes({"train": named(("cat", "dog"), 0, 2)})


def test_number_that_cannot_be_a_classes_is_named_instead_of_counted_up_to() -> None:
    with pytest.raises(UserError, match=r"real\.label_field: .*1754300000.*; name another field"):
        number_classes({"train": numbers(1, 1_754_300_000)})


def test_train_images_without_labels_leave_the_classes_to_the_test_images() -> None:
    assert meanings(folders(), folders("cat", "dog"))["test"] == {"cat": "cat", "dog": "dog"}
    assert number_classes({"train": folders()}).names == ()


def test_wanted_classes_alone_are_numbered() -> None:
    splits = {"train": folders("cat", "dog", "emu"), "test": named(("emu", "cat"), 0, 1)}
    classes = number_classes(splits, {"emu", "cat"})
    assert classes.names == ("cat", "emu")
    assert classes.numbers == {"train": {"cat": 0, "emu": 1}, "test": {"0": 1, "1": 0}}


def test_wanted_classes_leave_out_a_test_class_that_the_train_images_do_not_have() -> None:
    splits = {"train": folders("cat", "dog"), "test": folders("cat", "yak")}
    assert number_classes(splits, {"cat"}).numbers["test"] == {"cat": 0}
    with pytest.raises(UserError, match=r"real\.classes: no images of 'yak'"):
        number_classes(splits, {"cat", "yak"})


def test_wanted_class_that_is_not_there_is_named_beside_a_few_that_are() -> None:
    many = folders(*(f"class{number:02}" for number in range(30)))
    with pytest.raises(UserError, match=r"real\.classes: no images of 'yak'.*and 20 more"):
        number_classes({"train": many}, {"class01", "yak"})


def test_test_classes_that_the_train_images_do_not_have_are_all_named() -> None:
    with pytest.raises(UserError, match=r"classes 'ox', 'yak', which .* \(they have cat\)"):
        number_classes({"train": folders("cat"), "test": folders("cat", "yak", "ox")})
    with pytest.raises(UserError, match=r"class 'yak', which .*; add train images of it, or"):
        number_classes({"train": folders("cat"), "test": folders("yak")})
