"""Which images a training is looked at by, as plain values that travel to workers, which open them
for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.root import Config
from pipeline.records.products import RealShards, real_shards, require_real
from pipeline.records.sets import require_set
from shards.reader import ShardReader


@dataclass(frozen=True)
class MonitoredReaders:
    """What `MonitoredShards` opens."""

    train: ShardReader
    test: ShardReader | None
    has_labels: bool


@dataclass(frozen=True)
class MonitoredShards:
    """Train images, and test images where there are any."""

    train: RealShards
    test: RealShards | None
    has_labels: bool
    """Whether any image may have one."""

    def open(self) -> MonitoredReaders:
        """Readers; raises UserError if shards are missing."""
        test = None if self.test is None else self.test.open()
        return MonitoredReaders(self.train.open(), test, self.has_labels)


def monitored_shards(config: Config) -> MonitoredShards | None:
    """What `train.monitor.set` names, else the run's own real images; None where nothing is
    measured.

    Raises:
        UserError: for a set that is not packed.
    """
    monitor = config.train.monitor
    if monitor.every_epochs == 0:
        return None
    if monitor.set is None:
        real = require_real(config).outputs
    else:
        real = require_set(config, monitor.set).outputs
    test = real_shards(config, "test", real) if real.num_samples["test"] else None
    return MonitoredShards(real_shards(config, "train", real), test, bool(real.class_names))
