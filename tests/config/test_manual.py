"""What the manual says of every field is what the models say, and `help` finds it."""

from __future__ import annotations

import pytest

from pipeline.config.manual import WIDTH, explain, list_sections, overview, page
from shards.errors import UserError
from tests.support.command_line import assert_mistake, run, succeed
from tests.support.workspace import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run `python -m pipeline help --markdown > docs/configuration.md`"
    )


def test_page_has_a_meaning_for_every_field() -> None:
    silent = [
        field.place
        for section in list_sections()
        for field in section.fields
        if not field.meaning
        and not field.type.startswith("section")
        and section.place != "train.method"
    ]
    assert not silent


def test_page_fits_its_width() -> None:
    assert max(map(len, page().splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("place", "entry"),
    [
        ("name", "`name`: text, required."),
        ("paths.cache", "`cache`: path, default `~/.cache/squeeze-and-span`."),
        ("ray.render_workers", "`render_workers`: integer ≥ 0 or `all`, default `2`."),
        ("ray.grow_s", "`grow_s`: integer from 0 to 86400, default `0`."),
        ("real.path", "`path`: path or URL, optional."),
        ("real.background", "list of 3 integers from 0 to 255, default `[255, 255, 255]`."),
        ("real.unreadable", "`unreadable`: `stop` or `skip`, default `stop`, *not recorded*."),
        ("teacher.ema_rampup", "`ema_rampup`: number > 0 or `null`, default `0.05`."),
        ("generate.features", "`features`: `blocks` or list of texts, default `blocks`."),
        ("train.synthetic_share", "`synthetic_share`: number > 0 and < 1, default `0.5`."),
        ("train.student", "## train.student"),
        ("train.method", "## train.method: vicreg"),
        ("train.method.squeeze", "`squeeze`: `true` or `false`, default `true`."),
        ("eval.probes", "list of `linear`, `knn` or `linear_sgd`, default `[linear, knn]`."),
        ("eval.sets.NAME.path", "`path`: path or URL, optional."),
        ("eval.sets.birds.path", "`path`: path or URL, optional."),
        ("finetune.short_sides", "`short_sides`: list of integers from 16 to 10000"),
    ],
)
def test_explain_says_type_limits_and_default(place: str, entry: str) -> None:
    assert entry in " ".join(explain(place).split())


def test_overview_has_a_sentence_for_each_section() -> None:
    lines = overview().splitlines()
    assert len(lines) == len(list_sections()) - 1
    assert all(line.endswith(".") for line in lines)


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("epoch", "train.epochs"),
        ("train.variance_weight", "train.method.variance_weight"),
        ("trian", "train"),
        ("train.student.widht", "train.student.width"),
        ("qqqq", "lists the sections"),
    ],
)
def test_explain_unknown_place_is_named_with_a_near_one(place: str, near: str) -> None:
    with pytest.raises(UserError, match=f"^{place}: no such section or field.*{near}"):
        explain(place)


def test_help_prints_a_section_or_all_of_them() -> None:
    assert succeed("help", "train.method").out == explain("train.method") + "\n"
    assert succeed("help").out == overview() + "\n"
    assert succeed("help", "--markdown").out == page()
    assert_mistake(run("help", "train.epoch"), "train.epoch", "did you mean train.epochs?")
