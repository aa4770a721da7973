"""`export` through the command line: a folder whose card's code gives the run's representations."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save

from pipeline.eval.subjects import load_student
from pipeline.records.products import Files
from pipeline.records.record import read_record
from pipeline.results.ledger import part_path
from pipeline.student.backbone import Normalise
from tests.support.card_code import python_blocks, run_code
from tests.support.command_line import Result, assert_mistake, run
from tests.support.measured_runs import TINY, arguments, config_of
from tests.support.stored_pools import Site, snapshot

pytestmark = pytest.mark.slow


def export(site: Site, *more: object) -> Result:
    return run("export", *arguments(site, *TINY), *more)


def test_card_code_gives_the_runs_own_representations(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = export(site)
    assert code == 0, errors
    folder = site.runs / "tiny" / "export"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    config = config_of(site, *TINY)
    blocks = python_blocks((folder / "README.md").read_text())
    assert len(blocks) == 2  # torchvision, timm
    normalise = Normalise(config.train.pixel_mean, config.train.pixel_std)
    student = load_student(config).eval()
    for block in blocks:
        found = run_code(block, folder, monkeypatch)
        with torch.no_grad():
            normalised = normalise(found["images"]).contiguous()
            assert torch.equal(found["representations"], student(normalised))


def test_export_has_the_students_weights_in_full_precision(site: Site) -> None:
    export(site)
    ours = load_file(site.runs / "tiny" / "train" / "student.safetensors")
    path = site.runs / "tiny" / "export" / "model.safetensors"
    found = load_file(path)
    assert found.keys() == ours.keys()
    for name, value in ours.items():
        assert found[name].dtype in (torch.float32, torch.int64)
        assert torch.equal(found[name], value)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_weights_that_compute_something_else_are_never_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_in_half(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
        rounded = {
            name: value.half().float() if value.is_floating_point() else value
            for name, value in tensors.items()
        }
        return save(rounded, metadata)

    monkeypatch.setattr("pipeline.export.folder.save", save_in_half)
    with pytest.raises(RuntimeError, match="other representations"):
        export(site)
    assert not (site.runs / "tiny" / "export" / "model.safetensors").exists()


def test_card_has_lineage_numbers_and_front_matter_a_hub_reads(site: Site) -> None:
    export(site)
    text = (site.runs / "tiny" / "export" / "README.md").read_text()
    train = json.loads((site.runs / "tiny" / "train" / "record.json").read_text())
    pool = json.loads((site.runs / "tiny" / "generate" / "record.json").read_text())
    for wanted in (
        train["outputs"]["student.safetensors"],
        train["fingerprint"],
        pool["inputs"]["teacher"],
        pool["outputs"]["key"],
        "k = 3",
        "3 seeds of the evaluation",
    ):
        assert wanted in text
    assert str(site.folder) not in text  # nothing of where it was made
    assert str(site.source) not in text
    data = ModelCard(text).data
    assert data.license is None
    assert data.pipeline_tag == "image-feature-extraction"
    assert {result.metric_type for result in data.eval_results} == {"accuracy"}
    assert len(data.eval_results) == 4


def test_card_of_a_run_whose_numbers_are_gone_is_refused(site: Site) -> None:
    record = read_record(site.runs / "tiny" / "eval", Files)
    assert record is not None
    part_path(site.runs, "tiny", record.fingerprint).unlink()
    assert_mistake(export(site), "results.parquet", "python -m pipeline eval")
    assert not (site.runs / "tiny" / "export").exists()


def test_export_again_touches_nothing_and_keeps_the_users_licence(site: Site) -> None:
    folder = site.runs / "tiny" / "export"
    export(site)
    before = snapshot(folder)
    _, _, errors = export(site)
    assert "up to date" in errors
    assert snapshot(folder) == before
    card = folder / "README.md"
    export(site, "--license", "apache-2.0")
    assert ModelCard(card.read_text()).data.license == "apache-2.0"
    card.write_text(card.read_text().replace("license: apache-2.0", "license: mit"))
    (folder / "config.json").unlink()
    export(site)
    assert ModelCard(card.read_text()).data.license == "mit"
    assert (folder / "config.json").exists()


def test_export_with_a_damaged_file_is_mended(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "somewhere"
    export(site, "--out", out)
    whole = snapshot(out)
    (out / "model.safetensors").write_bytes(b"half")
    export(site, "--out", out)
    assert {path: content for path, (_, content) in snapshot(out).items()} == {
        path: content for path, (_, content) in whole.items()
    }


def test_export_replaces_no_files_but_its_own(site: Site, tmp_path: Path) -> None:
    foreign = tmp_path / "out" / "README.md"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    assert_mistake(export(site, "--out", foreign.parent), "--out=", "empty folder")
    assert list(foreign.parent.iterdir()) == [foreign]
    assert foreign.read_text() == "mine"
    assert_mistake(export(site, "--out", foreign), "--out=", "name a folder")
    assert_mistake(export(site, "--out", site.runs / "tiny" / "train"), "--out=")


def test_export_with_a_mistake_is_one_line(site: Site) -> None:
    assert_mistake(run("export", *arguments(site, "name=new")), "python -m pipeline train")
    assert_mistake(run("export", *arguments(site, "train.epochs=7")), "train.epochs=1 (now 7)")
    assert_mistake(export(site, "--license", "My Own"), "--license=My Own", "apache-2.0")
    assert_mistake(export(site, "--public"), "--push-to")
    card = site.runs / "tiny" / "export" / "README.md"
    card.parent.mkdir()
    card.write_text("---\nlicense: [\n---\n")
    assert_mistake(export(site), card, "front matter")
    student = site.runs / "tiny" / "train" / "student.safetensors"
    student.write_bytes(student.read_bytes()[:-4])
    assert_mistake(export(site), student, "python -m pipeline train")


def test_export_of_the_discriminator_is_refused(site: Site) -> None:
    result = run("export", *arguments(site, "name=d", "train.method.name=discriminator"))
    assert_mistake(result, "train.method.name=discriminator")


def test_export_is_pushed_through_the_hubs_client(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, object] = {}

    class Hub:
        def create_repo(self, repo_id: str, **_: object) -> str:
            return f"https://hub/{repo_id}"

        def upload_folder(self, **given: object) -> None:
            sent.update(given)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    code, _, errors = export(site, "--push-to", "me/tiny")
    assert code == 0, errors
    assert "https://hub/me/tiny" in errors
    assert sent["folder_path"] == site.runs / "tiny" / "export"
    assert sent["repo_id"] == "me/tiny"


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("is_default", [True, False])
def test_export_that_cannot_be_written_names_the_option_that_chooses_the_place(
    site: Site, monkeypatch: pytest.MonkeyPatch, problem: int, is_default: bool
) -> None:
    """Elsewhere under `paths.runs` there would be no student."""

    def fail(*_: object) -> None:
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(os, "replace", fail)
    result = export(site, *([] if is_default else ["--out", site.runs / "exported"]))
    assert_mistake(result, os.strerror(problem), "write elsewhere with --out …")
    assert "paths." not in result.errors
