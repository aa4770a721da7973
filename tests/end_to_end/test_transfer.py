"""A student carried to other data sets, through the command line and torchvision's own loaders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.results.ledger import LEDGER, read_ledger
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site
from tests.support.transfer_sets import write_aircraft, write_dtd

pytestmark = pytest.mark.slow
RUN = (*TINY_TRAINING, "train.epochs=1", "train.method.name=vicreg", "train.images=real")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A run with a student, and two of the eleven data sets beside it."""
    site = make_site(tmp_path_factory.mktemp("transfer"))
    for stage in ("real", "train"):
        site.stage(stage, *RUN)
    root = site.folder / "sets"
    write_dtd(root)
    write_aircraft(root)
    return site


@pytest.fixture
def site(original: Site, tmp_path: Path) -> Site:
    return original.copy_to(tmp_path / "site")


def test_transfer_measures_the_sets_that_are_there_once_and_names_the_others(site: Site) -> None:
    root = f"transfer.root={site.folder / 'sets'}"
    code, _, said = site.try_stage("transfer", *RUN, root)
    assert code == 0, said
    assert "SUN397" in said  # where it goes
    results = json.loads((site.runs / "tiny" / "transfer.json").read_text())
    assert set(results) == {"dtd", "aircraft"}
    assert results["dtd"]["metric"] == "top-1"
    assert results["aircraft"]["metric"] == "mean per class"
    assert all(0 <= result["score"] <= 100 for result in results.values())
    assert not any(result["is_published"] for result in results.values())
    rows = [number for number in read_ledger(site.runs) if number.task == "transfer"]
    assert {number.dataset for number in rows} == {"dtd", "aircraft"}
    assert {number.split_digest for number in rows} == {r["split_digest"] for r in results.values()}
    code, _, said = site.try_stage("transfer", *RUN, root, "transfer.sets=[dtd]")
    assert (code, "done" in said) == (0, True)
    before = (site.runs / "tiny" / "transfer.json").stat().st_mtime_ns
    code, _, said = site.try_stage("transfer", *RUN, root)
    assert "done" in said
    assert (site.runs / "tiny" / "transfer.json").stat().st_mtime_ns == before
    for part in (site.runs / LEDGER).glob("tiny-*.parquet"):
        part.write_bytes(b"half")
    code, _, said = site.try_stage("transfer", *RUN, root)
    assert code == 0, said
    assert {n.value for n in read_ledger(site.runs, ["tiny"])} >= {row.value for row in rows}


@pytest.mark.parametrize(
    ("overrides", "mentions"),
    [
        ((), ("transfer.root",)),
        (("transfer.root=nowhere",), ("transfer.root=nowhere", "none of the data sets")),
        (("transfer.root=nowhere", "transfer.sets=[pets]"), ("oxford-iiit-pet",)),
        (("transfer.sets=[pet]",), ("transfer.sets", "pet")),
    ],
)
def test_transfer_without_its_files_is_one_line(
    site: Site, overrides: tuple[str, ...], mentions: tuple[str, ...]
) -> None:
    assert_mistake(site.try_stage("transfer", *RUN, *overrides), *mentions)


def test_eval_measures_sets_of_ericsson_et_al_as_transfer_does(site: Site) -> None:
    root = site.folder / "sets"
    settings = (*RUN, "eval.baselines=false", "eval.probes=[knn]", "eval.few_labels=[]")
    named = f"eval.sets.dtd={{source: ericsson, path: {root}}}"
    code, _, said = site.try_stage("eval", *settings, named)
    assert code == 0, said
    by_eval = {
        number.dataset: number.value
        for number in read_ledger(site.runs)
        if number.task != "domains"
    }
    assert set(by_eval) == {"folder", "dtd"}
    code, _, said = site.try_stage("eval", *settings, named)
    assert (code, "done" in said) == (0, True)
    code, _, said = site.try_stage("transfer", *RUN, f"transfer.root={root}", "transfer.sets=[dtd]")
    assert (code, "done" in said) == (0, True)
    code, _, said = site.try_stage("eval", *settings, named, "eval.sets.dtd.path=nowhere")
    assert code == 0, "its folder may move once it is measured"
    code, _, said = site.try_stage("report", *settings, named)
    assert code == 0, said
    page = (site.runs / "tiny" / "report.html").read_text()
    assert re.search(
        r"Other data sets.*<td>dtd</td><td class=\"number\">\d+\.\d</td>", page, re.DOTALL
    )
    other = "eval.sets.aircraft={source: ericsson, path: nowhere}"
    assert_mistake(site.try_stage("eval", *settings, other), "nowhere", "fgvc-aircraft")
