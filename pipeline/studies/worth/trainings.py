"""The trainings that tell what a teacher adds: four methods, at every number of real images; and
before those, each method at several learning rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.studies.cells import Cell
from pipeline.studies.collect import Outcome, columns_of, main_column, values_of
from pipeline.studies.methods import find_methods
from shards.errors import UserError

WORTH = "worth"
ALONE = "vicreg-real"
"""Its students know no teacher."""
METHODS = ("squeeze-and-span", "squeeze", "vicreg-both", ALONE)
"""Files of `configs/methods/`."""
_TUNING_SHARE = 0.8


@dataclass(frozen=True)
class Trial:
    """One method with one learning rate and `num_real` real images, which are `size`."""

    method: str
    learning_rate: float
    size: int | str
    num_real: int
    is_tuning: bool
    """Whether train images that are left out judge it; else the test images."""

    @property
    def row(self) -> str:
        """Names its trainings."""
        of = f"rate{self.learning_rate:g}".replace("+", "") if self.is_tuning else self.size
        return f"{self.method}-{of}"


@dataclass(frozen=True)
class Plan:
    """What there is to train for the config in `path` with `changes`, of `num_train` images."""

    path: Path
    changes: Sequence[str]
    num_train: int

    @cached_property
    def base(self) -> Config:
        """The config."""
        return load_config(self.path, self.changes)

    @property
    def rates(self) -> list[float]:
        """Learning rates to try, rising."""
        once = self.base.train.learning_rate
        return sorted(self.base.worth.learning_rates or (once / 2, once, 2 * once))

    def tuning_trials(self) -> list[Trial]:
        """Every method at every rate.

        Raises:
            UserError: if no train image would be left to judge them.
        """
        worth = self.base.worth
        numbers = [size for size in worth.sizes if isinstance(size, int)]
        size = worth.tuning_size or max(numbers, default=int(_TUNING_SHARE * self.num_train))
        if size >= self.num_train and len(self.rates) > 1:
            raise UserError(
                f"worth.tuning_size: {size:,} of {self.num_train:,} train images leave none to "
                "judge the learning rates; take fewer"
            )
        return [Trial(method, rate, size, size, True) for method in METHODS for rate in self.rates]

    def size_trials(self, rates: Mapping[str, float]) -> list[Trial]:
        """Every method of `rates`, at its rate, for every number of real images.

        Raises:
            UserError: for a number that there are too few images for.
        """
        trials = []
        for size in self.base.worth.sizes:
            num_real = self.num_train if isinstance(size, str) else size
            if num_real > self.num_train:
                raise UserError(
                    f"worth.sizes: {size:,} of {self.num_train:,} train images; take fewer"
                )
            trials += [Trial(method, rates[method], size, num_real, False) for method in rates]
        return trials

    def cells(self, trials: Sequence[Trial]) -> list[Cell]:
        """Every training of the trials, all of one seed before the next."""
        worth = self.base.worth
        return [
            Cell(trial.row, seed, self._config(trial, seed))
            for is_tuning, seeds in ((True, worth.tuning_seeds), (False, worth.seeds))
            for seed in seeds
            for trial in trials
            if trial.is_tuning == is_tuning
        ]

    def _config(self, trial: Trial, seed: int) -> Config:
        base, is_judge = self.base, trial.is_tuning
        overrides = [
            f"name={trial.row}-seed{seed}",
            f"paths.runs={(base.run_dir / WORTH).absolute()}",
            f"teacher.checkpoint={base.teacher_folder.absolute()}",
            f"train.seed={seed}",
            f"train.epochs={self.num_epochs(trial)}",
            f"train.learning_rate={trial.learning_rate}",
            f"eval.baselines={trial.method == ALONE and not is_judge}",
            "eval.few_labels=[]",
            "eval.domain_samples=0",
            "eval.embedding_samples=0",
        ]
        if trial.num_real < self.num_train:
            overrides += [f"real.limit={trial.num_real}", f"real.limit_seed={seed}"]
        if is_judge:
            overrides.append("real.test_from=train")
        laid_over = find_methods(self.path) / f"{trial.method}.yaml"
        return load_config(self.path, [*self.changes, str(laid_over), *overrides])

    def num_epochs(self, trial: Trial) -> int:
        """As many as make the wanted number of steps; an epoch is the longer, the more images."""
        train, sizes = self.base.train, self.base.worth.sizes
        most = self.num_train if "all" in sizes else max(int(size) for size in sizes)
        steps = self.base.worth.steps or train.epochs * train.steps_per_epoch(most)
        return max(1, round(steps / train.steps_per_epoch(trial.num_real)))

    def num_views(self, trial: Trial) -> int:
        """Images that one of its trainings sees, every one in two views."""
        steps = self.num_epochs(trial) * self.base.train.steps_per_epoch(trial.num_real)
        return steps * self.base.train.global_batch


@dataclass(frozen=True)
class Tuning:
    """What one method scored at every learning rate, in percent, and the rate chosen."""

    tried: Mapping[float, float]
    chosen: float


def choose_rates(
    trials: Sequence[Trial], outcomes: Sequence[Outcome], num_seeds: int
) -> dict[str, Tuning]:
    """Of every method the rate with the highest accuracy, the lower of equals: that of a linear
    probe on all labels where there is one. A rate that has not an outcome for each seed, where its
    training diverged, is out; a method that has no other is left out.
    """
    column = main_column(columns_of(outcomes))
    values = {trial: values_of(outcomes, trial.row, column) for trial in trials}
    tunings = {}
    for method in METHODS:
        tried = {
            trial.learning_rate: fmean(found.values())
            for trial, found in values.items()
            if trial.method == method and len(found) == num_seeds
        }
        if tried:
            chosen = max(tried, key=lambda rate: (tried[rate], -rate))
            tunings[method] = Tuning(tried, chosen)
    return tunings
