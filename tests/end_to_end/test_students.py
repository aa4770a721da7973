"""A student by the name of its architecture, through the command line."""

from __future__ import annotations

import json

import pytest

from tests.support.command_line import assert_mistake
from tests.support.stored_pools import Site, make_site

pytestmark = pytest.mark.slow
TINY = (
    "train.epochs=1",
    "train.global_batch=8",
    "train.method.name=vicreg",
    "train.images=real",
    "train.student.embedding_dim=8",
    "train.student.projector_layers=2",
    "eval.knn_k=3",
    "eval.few_labels=[2_per_class]",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = make_site(tmp_path_factory.mktemp("students"))
    site.stage("real")
    return site


def page_of(site: Site, name: str, *overrides: str) -> str:
    site.stage("run", f"name={name}", *TINY, *overrides)
    return (site.runs / name / "report.html").read_text()


def test_run_with_a_named_architecture_says_what_the_student_is(site: Site) -> None:
    quick = ("eval.probes=[knn]", "eval.embedding_samples=0")
    named = page_of(site, "named", "train.student.architecture=mobilenet_v3_small", *quick)
    assert "mobilenet_v3_small, sha256" in named
    narrow = ("train.student.architecture=resnet50", "train.student.width=4")
    resnet = page_of(site, "resnet", *narrow, *quick)
    assert "resnet50, width 4, stem cifar, sha256" in resnet


@pytest.mark.parametrize(
    ("architecture", "words"),
    [("mobilenet_v3_smal", "mobilenet_v3_small"), ("vit_b_32", "does not take images of")],
)
def test_train_with_an_architecture_that_will_not_do_names_it(
    site: Site, architecture: str, words: str
) -> None:
    site.stage("real", "name=wrong", *TINY)
    field = "train.student.architecture"
    result = site.try_stage("train", "name=wrong", *TINY, f"{field}={architecture}")
    assert_mistake(result, field, words)


def test_run_with_the_papers_probe_reports_its_last_epoch_and_needs_no_other(site: Site) -> None:
    probes = ("eval.probes=[linear_sgd]", "eval.sgd_epochs=2")
    page = page_of(site, "sgd", "train.student.width=4", *probes)
    assert "linear by SGD" in page
    rows = json.loads((site.runs / "sgd" / "results.json").read_text())
    assert [row["representation"] for row in rows] == ["student", "untrained_student"]
    for row in rows:
        assert row["probe"] == "linear_sgd"
        assert row["top1_best"] >= row["top1_mean"]
        assert "2 epochs" in row["protocol"]
    curves = json.loads((site.runs / "sgd" / "eval" / "curves.json").read_text())
    assert [max(curve) for curve in curves.values()] == pytest.approx(
        [row["top1_best"] for row in rows], abs=1e-3
    )
    assert {len(curve) for curve in curves.values()} == {2}
    assert "after every epoch; the last is the result" in page


def test_report_is_made_again_with_a_section_that_a_sweep_left(site: Site) -> None:
    settings = ("train.student.width=4", "eval.probes=[knn]")
    assert "Pools of all sizes" not in page_of(site, "swept", *settings)
    folder = site.runs / "swept" / "sections"
    folder.mkdir()
    (folder / "pool-sweep.html").write_text("<h2>Pools of all sizes</h2>")
    assert "<h2>Pools of all sizes</h2>" in page_of(site, "swept", *settings)
