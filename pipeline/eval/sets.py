"""Subjects probed on a labelled set, each part kept as it is found.

Neighbours: `probes/` fits, `labelled.py` has the sets, `stage.py` writes what comes of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.cluster import monitoring
from pipeline.config.root import Config
from pipeline.eval.labelled import LabelledSet
from pipeline.eval.parts import Parts
from pipeline.eval.probes.probe import ALL, ProbeJob, Score, list_jobs
from pipeline.eval.probes.run import run_jobs
from pipeline.eval.probes.sgd_training import run_sgd_probe
from pipeline.eval.subjects import Subject
from pipeline.student.extraction import Extractor
from pipeline.terminal.progress import progress_bar


def probe_set(
    config: Config,
    labelled: LabelledSet,
    subjects: Sequence[Subject],
    extractor: Extractor,
    parts: Parts,
) -> Iterator[Score]:
    """Scores of every probe of every subject on a set, with a progress bar."""
    jobs = jobs_of(labelled, list_jobs(config.eval))
    for subject in subjects:
        kept = {job: parts.find(_name(labelled, subject, job), Score) for job in jobs}
        todo = [job for job, score in kept.items() if score is None]
        if todo:
            folds = subject.represent(labelled, extractor)
            with progress_bar("probes") as bar:
                task = bar.add_task(f"{subject.name} {labelled.name}", total=len(todo), note="")
                report = _RowsRead(bar)
                for job, score in run_jobs(todo, folds, config.eval, extractor.workers, report):
                    noted = _with_remark(score, subject.remark + labelled.remark)
                    kept[job] = parts.keep(_name(labelled, subject, job), noted, Score)
                    bar.update(task, advance=1, note=_note(noted))
                    monitoring.count("probes_fitted", 1, config.name)
        yield from (score for score in kept.values() if score is not None)
        if "linear_sgd" in config.eval.probes and subject.network.backbone is not None:
            yield from _probe_by_sgd(config, labelled, subject, parts)


class _RowsRead:
    """Shows how far a probe is that reads its rows many times, once there is one."""

    def __init__(self, bar: Any) -> None:
        self._bar, self._task = bar, None

    def __call__(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("  rows read", total=total, note="")
        self._bar.update(self._task, completed=done, total=total)


def jobs_of(labelled: LabelledSet, jobs: Sequence[ProbeJob]) -> list[ProbeJob]:
    """`jobs` with the fold of the set that each is of: on all labels there is one for each fold,
    whose number takes the place of the seed; draws of few labels take turns.
    """
    count = len(labelled.folds)
    if count == 1:
        return list(jobs)
    of_all = [job for job in jobs if job.labels == ALL]
    return [
        *(replace(job, seed=fold, fold=fold) for job in of_all for fold in range(count)),
        *(replace(job, fold=job.seed % count) for job in jobs if job.labels != ALL),
    ]


def _probe_by_sgd(
    config: Config, labelled: LabelledSet, subject: Subject, parts: Parts
) -> Iterator[Score]:
    """The paper's probe, which sees images; of several folds one is tested, by its seed."""
    name = f"{_of(labelled, subject)}-linear_sgd"
    score = parts.find(name, Score)
    if score is None:
        assert subject.network.backbone is not None
        fold = labelled.folds[config.eval.seeds[0] % len(labelled.folds)]
        found = run_sgd_probe(
            subject.name,
            subject.network.backbone,
            labelled.probe_images(fold, config.view_size),
            config,
            parts.folder / name,
        )
        score = parts.keep(name, _with_remark(found, labelled.remark), Score)
    yield score


def _name(labelled: LabelledSet, subject: Subject, job: ProbeJob) -> str:
    return f"{_of(labelled, subject)}-{job.probe}-{job.labels}-{job.seed}"


def _of(labelled: LabelledSet, subject: Subject) -> str:
    return f"{labelled.name}-{labelled.split_digest[:12]}-{subject.name}"


def _with_remark(score: Score, remark: str) -> Score:
    return replace(score, top1=replace(score.top1, protocol=_add(score.top1.protocol, remark)))


def _add(protocol: str, remark: str) -> str:
    """A remark that makes another protocol, before one in brackets that does not."""
    text, bracket, note = protocol.partition(" [")
    return f"{text}{remark}{bracket}{note}"


def _note(score: Score) -> str:
    found = score.top1
    return f"{found.probe} {found.labels} {found.value:.1f}"
