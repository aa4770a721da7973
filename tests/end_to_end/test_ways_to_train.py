"""Every way to train, through the command line: what it needs is made, what it does not is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models import alexnet

from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site
from tests.support.workspace import ROOT

pytestmark = pytest.mark.slow
TINY = ("train.epochs=1", *TINY_TRAINING)
NO_POOL = {
    "vicreg on real images": ("train.method.name=vicreg", "train.images=real"),
    "fresh samples": ("train.source=online",),
    "discriminator": ("train.method.name=discriminator",),
    "single discriminator feature": (
        "train.method.name=discriminator",
        "train.method.level=single",
    ),
}
OF_THE_POOL = {
    "squeeze": ("train.images=synthetic",),
    "vanilla": ("train.images=synthetic", "train.method.squeeze=false"),
    "latents": ("train.features=[w]",),
    "simsiam": ("train.method.name=simsiam",),
    "encoding": (
        "train.method.name=encoding",
        "train.method.perceptual=none",
        "train.features=[w]",
        "train.augment.enabled=false",
    ),
    "release": ("train.variant=release",),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = make_site(tmp_path_factory.mktemp("methods"))
    site.stage("real")
    site.stage("generate")
    return site


def results(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return rows


def record(folder: Path, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / stage / "record.json").read_text())
    return content


@pytest.mark.parametrize("name", [*NO_POOL, *OF_THE_POOL])
def test_run_with_a_method_writes_results_and_report_and_says_what_made_them(
    site: Site, name: str
) -> None:
    overrides = NO_POOL.get(name) or OF_THE_POOL[name]
    run = f"name={name.replace(' ', '-')}"
    site.stage("run", run, *TINY, *overrides)
    folder = site.runs / name.replace(" ", "-")
    assert (folder / "generate").exists() == (name in OF_THE_POOL)
    made = record(folder, "train")
    expected_pool = 24 if name in OF_THE_POOL else {"fresh samples": 4}.get(name, 0)
    assert made["outputs"]["pool_size"] == expected_pool
    assert {row["representation"] for row in results(folder)} >= {"student", "raw_pixels"}
    for row in results(folder):
        assert row["pool_size"] == expected_pool
        assert (row["method"], row["variant"]) == (
            made["config"]["method"]["name"],
            made["config"]["variant"],
        )
    page = (folder / "report.html").read_text()
    assert made["config"]["method"]["name"] in page
    before = (folder / "train" / "record.json").stat().st_mtime_ns
    site.stage("run", run, *TINY, *overrides)
    assert (folder / "train" / "record.json").stat().st_mtime_ns == before, "done is done"


def test_train_fresh_samples_of_another_teacher_is_another_student(site: Site) -> None:
    overrides = ("name=fresh", "train.source=online", *TINY)
    site.stage("run", *overrides)
    result = site.try_stage("train", *overrides, "generate.seed=5")
    assert_mistake(result, "sampling")


OWN = '''
import torch
from pipeline.student.backbone import build_backbone
from pipeline.train.method import Method, StepOutput

class Rotation(Method):
    """Which way is up (Gidaris et al. 2018)."""

    real_views = 1

    def __init__(self, config, context, scale=1.0):
        super().__init__(config, context)
        self.backbone = build_backbone(config.student, config.seed)
        self.head = torch.nn.Linear(self.backbone.representation_dim, 4)
        self.scale = scale

    def forward(self, batch):
        (images,) = batch.real
        turns = torch.arange(len(images)) % 4
        turned = torch.stack([i.rot90(int(t), (1, 2)) for i, t in zip(images, turns)])
        logits = self.head(self.backbone(turned))
        return StepOutput(self.scale * torch.nn.functional.cross_entropy(logits, turns))
'''


def test_method_of_ones_own_takes_one_file_and_one_config(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_methods.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("name=own", *TINY, "train.images=real", "train.method.name=my_methods:Rotation")
    site.stage("run", *own, "train.method.options={scale: 2}")
    assert "my_methods:Rotation" in (site.runs / "own" / "report.html").read_text()
    assert "code" in record(site.runs / "own", "train")["inputs"]
    for wrong, word in (
        ("train.method.options={scal: 2}", "scal"),
        ("train.method.name=my_methods:Rotatio", "Rotatio"),
        ("train.method.name=my_methods:torch", "Method"),
        ("train.method.name=no_such_module:Rotation", "no_such_module"),
    ):
        assert_mistake(site.try_stage("run", *own, "name=wrong", wrong), word)


BROKEN = """
import torch
from pipeline.student.backbone import build_backbone
from pipeline.train.method import Method, StepOutput

class Base(Method):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.backbone = build_backbone(config.student, config.seed)

class Tensor(Base):
    def forward(self, batch):
        return self.backbone(batch.real[0]).sum()

class Vector(Base):
    def forward(self, batch):
        return StepOutput(self.backbone(batch.real[0]).sum(1))

class Detached(Base):
    def forward(self, batch):
        return StepOutput(torch.zeros([]))

class Abstract(Base):
    pass

class OtherBackbone(Base):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.backbone = torch.nn.Flatten()

    def forward(self, batch):
        raise NotImplementedError
"""


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Tensor", "StepOutput"),
        ("Vector", "scalar"),
        ("Detached", "gradient"),
        ("Abstract", "forward"),
        ("OtherBackbone", "build_backbone"),
    ],
)
def test_method_of_ones_own_that_is_wrong_is_one_line(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    (tmp_path / "broken_methods.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    method = ("train.images=real", f"train.method.name=broken_methods:{name}")
    result = site.try_stage("run", f"name={name}", *TINY, *method)
    assert_mistake(result, f"broken_methods:{name}", word)


@pytest.mark.parametrize("code", ["import sys\nsys.exit(3)", "1 / 0", "def"])
def test_module_of_ones_own_that_cannot_be_imported_is_one_line(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / f"unimportable{len(code)}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    place = f"unimportable{len(code)}:Method"
    method = ("train.images=real", f"train.method.name={place}")
    assert_mistake(site.try_stage("run", "name=unimportable", *TINY, *method), place)


def test_method_in_the_documents_is_a_dozen_lines_and_trains(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    (tmp_path / "documented.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    method = ("train.images=real", "train.method.name=documented:Rotation")
    site.stage("run", "name=documented", *TINY, *method)
    assert results(site.runs / "documented")


def test_encoding_without_the_weights_of_lpips_says_so_in_its_record(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    overrides = [o for o in OF_THE_POOL["encoding"] if "perceptual" not in o]
    lpips = "train.method.perceptual=lpips"
    result = site.try_stage("run", "name=lpips", *TINY, *overrides, lpips)
    assert_mistake(result, tmp_path, "train.method.perceptual=none")
    code, _, errors = site.try_stage("run", "name=auto", *TINY, *overrides)
    assert code == 0
    said = record(site.runs / "auto", "train")["inputs"]["perceptual"]
    assert str(tmp_path) in said
    assert said in " ".join(errors.split())


def test_encoding_with_lpips_trains_through_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are random ones in the layout of torchvision's file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    torch.save(alexnet().state_dict(), file)
    overrides = [o for o in OF_THE_POOL["encoding"] if "perceptual" not in o]
    site.stage("run", "name=with-lpips", *TINY, *overrides)
    assert record(site.runs / "with-lpips", "train")["inputs"]["perceptual"] == "lpips"
    lines = (site.runs / "with-lpips" / "train" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["perceptual"] > 0


def test_run_trains_its_control_too_and_shows_both(site: Site) -> None:
    overrides = (*TINY, "name=mine", "eval.control=vicreg-real")
    outcome = site.stage("run", *overrides)
    assert "VICReg, real images" in outcome.out + outcome.errors
    assert record(site.runs / "mine-vicreg-real", "train")["config"]["images"] == "real"
    page = (site.runs / "mine" / "report.html").read_text()
    assert "<td>VICReg, real images</td>" in page
    before = record(site.runs / "mine-vicreg-real", "train")
    assert "control" in site.stage("run", *overrides).errors
    assert record(site.runs / "mine-vicreg-real", "train") == before


def test_run_with_a_control_that_there_is_not_is_refused(site: Site) -> None:
    result = site.try_stage("run", *TINY, "name=other", "eval.control=vicreg-reel")
    assert_mistake(result, "eval.control", "vicreg-real")
    assert not (site.runs / "other").exists()
