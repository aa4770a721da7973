"""A whole config: one YAML is one run, a frozen model per section, unknown keys are errors.

`file.py` reads it. Sections `paths`, `ray` and `hardware` say where a run happens, `worth` which
others are set beside it: they stay out of every fingerprint (`records/record.py`). Every other
section says what the run produces and is in it.
Defaults are the paper's CIFAR table where the paper has one (Yang et al. 2022, appendix).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from pipeline.config.eval import EvalConfig
from pipeline.config.fields import Section, spelled, unrecorded
from pipeline.config.finetune import FinetuneConfig
from pipeline.config.generate import GenerateConfig
from pipeline.config.hardware import HardwareConfig
from pipeline.config.labelled_set import ERICSSON
from pipeline.config.method import RELEASE_CIFAR100_WEIGHTS
from pipeline.config.paths import PathsConfig
from pipeline.config.ray import RayConfig
from pipeline.config.real import RealConfig
from pipeline.config.sweep import SweepConfig
from pipeline.config.tables import TablesConfig
from pipeline.config.teacher import TeacherConfig, auto_recipe
from pipeline.config.train import TrainConfig
from pipeline.config.transfer import TransferConfig
from pipeline.config.worth import WorthConfig
from shards.cache import Cache
from shards.storage import Folder


def _check_name(name: str) -> str:
    if name in ("results.parquet", "representations"):
        raise ValueError("is reserved for all runs; choose another name")
    return name


class Config(Section):
    """A whole run."""

    name: Annotated[
        str,
        spelled(
            r"[A-Za-z0-9][A-Za-z0-9._-]*",
            "have only letters from a to z, digits, dots, underscores and hyphens, and begin "
            "with a letter or digit",
        ),
        AfterValidator(_check_name),
    ]
    """Name of the run, and of its folder under `paths.runs`: letters, digits, dots, underscores and
    hyphens. `results.parquet` and `representations` are reserved.
    """
    paths: PathsConfig = unrecorded(PathsConfig())
    ray: RayConfig = unrecorded(RayConfig())
    hardware: HardwareConfig = unrecorded(HardwareConfig())
    real: RealConfig = RealConfig()
    teacher: TeacherConfig = TeacherConfig()
    generate: GenerateConfig = GenerateConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    transfer: TransferConfig = TransferConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    tables: TablesConfig = TablesConfig()
    sweep: SweepConfig = SweepConfig()
    worth: WorthConfig = unrecorded(WorthConfig())

    @model_validator(mode="before")
    @classmethod
    def _fill_recipe(cls, data: Any) -> Any:
        """`teacher.recipe: auto` gives the fields of `teacher` that the file leaves out."""
        if not isinstance(data, dict) or not isinstance(data.get("teacher"), dict):
            return data
        teacher, real = data["teacher"], data.get("real") or {}
        resolution = real.get("resolution", 32) if isinstance(real, dict) else None
        try:
            resolution = int(resolution or 0)  # as the field itself does
        except (TypeError, ValueError):
            return data
        if teacher.get("recipe") != "auto" or resolution < 1:
            return data
        return {**data, "teacher": {**auto_recipe(resolution), **teacher}}

    @model_validator(mode="before")
    @classmethod
    def _fill_release_weights(cls, data: Any) -> Any:
        """The release weighs its losses otherwise on CIFAR-100; see `TrainConfig.variant`."""
        if not isinstance(data, dict) or not isinstance(data.get("train"), dict):
            return data
        train, real = data["train"], data.get("real")
        is_cifar100 = isinstance(real, dict) and real.get("source") == "cifar100"
        method = train.get("method", {})
        if not is_cifar100 or train.get("variant") != "release" or not isinstance(method, dict):
            return data
        if method.get("name", "squeeze_and_span") not in ("squeeze_and_span", "vicreg"):
            return data
        return {**data, "train": {**train, "method": {**RELEASE_CIFAR100_WEIGHTS, **method}}}

    @model_validator(mode="after")
    def _check_sets(self) -> Config:
        for name, labelled in self.eval.sets.items():
            if name == self.real.source:
                raise ValueError(
                    f"eval.sets.{name}: is the name of the run's own images in results "
                    f"(real.source={name}); choose another name"
                )
            if labelled.source == ERICSSON and labelled.path is None and not self.transfer.root:
                raise ValueError(
                    f"eval.sets.{name}: source={ERICSSON} needs path=FOLDER, torchvision's root of "
                    "it, or transfer.root=FOLDER"
                )
        return self

    @model_validator(mode="after")
    def _check_monitored_set(self) -> Config:
        name = self.train.monitor.set
        packed = [n for n, labelled in self.eval.sets.items() if labelled.source != ERICSSON]
        if name is not None and name not in packed:
            known = ", ".join(packed) or "none"
            raise ValueError(
                f"train.monitor.set: no set {name} in eval.sets that can be watched; there are "
                f"{known}; name one, or leave it unset"
            )
        return self

    @property
    def store(self) -> Folder:
        """Root of the store."""
        return Folder.at(self.paths.store)

    @property
    def cache(self) -> Cache:
        """Local copies of a remote store's shards."""
        return Cache(self.paths.cache, int(self.paths.cache_gb * 1e9))

    @property
    def run_dir(self) -> Path:
        """Folder of this run."""
        return self.paths.runs / self.name

    def packing(self, real: RealConfig, name: str, runs: Path) -> Config:
        """The config by which stage `real` packs other images beside the run's, and finds them
        again: with the run's store, cache and Ray, and its records in `runs`/`name`.
        """
        paths = self.paths.model_copy(update={"runs": runs})
        return self.model_copy(update={"name": name, "paths": paths, "real": real})

    def anchored(self) -> Config:
        """The same with absolute paths: a worker of a cluster has another working directory."""
        found: dict[str, Section] = {}
        for name in ("paths", "teacher", "transfer"):
            section: Section = getattr(self, name)
            places = {field: value for field, value in section if isinstance(value, Path)}
            found[name] = section.model_copy(
                update={field: place.absolute() for field, place in places.items()}
            )
        store = {"store": str(self.store)}
        return self.model_copy(update={**found, "paths": found["paths"].model_copy(update=store)})

    @property
    def control_name(self) -> str | None:
        """The run beside which this one's results are shown."""
        return None if self.eval.control is None else f"{self.name}-{self.eval.control}"

    @property
    def view_size(self) -> int:
        """Side of the views that the student sees, in pixels."""
        return self.train.view_size or self.real.resolution

    @property
    def trained_teacher_folder(self) -> Path:
        """Where stage `teacher` trains."""
        return self.teacher_folder if self.teacher.train_if_missing else self.run_dir / "teacher"

    @property
    def teacher_folder(self) -> Path:
        """The teacher to distil: the configured checkpoint, else the one trained in this run."""
        return self.teacher.checkpoint or self.run_dir / "teacher"
