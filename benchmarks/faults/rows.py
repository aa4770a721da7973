"""The faults: what is done to a command while it is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from benchmarks.faults.hosts import (
    OBJECT_STORE_MB,
    announce_loss,
    bring_up,
    command_on,
    cut_off,
    environment,
    find_processes,
    kill_host,
)
from benchmarks.faults.runs import RunningStage, saved_steps
from benchmarks.faults.s3_server import S3Server
from benchmarks.measure import ROOT

PACKER, RENDERER = "ray::_pack_task", "ray::_render_task"
TRAINER, PROBE = "ray::RayTrainWorker", "ray::_fit"
_DOWN_S = 20
_NOTICE_S = 10
_NO_CHECKPOINTS = "train.checkpoint_interval_s=3600"
_MANY_CHECKPOINTS = "train.checkpoint_interval_s=2"
Disturb = Callable[[RunningStage], str]
"""Does it while the command is at work, and says what was done and when."""


@dataclass(frozen=True)
class FaultRow:
    """One fault."""

    name: str
    stage: Literal["real", "generate", "train", "eval"]
    disturb: Disturb
    overrides: tuple[str, ...] = ()
    num_hosts: int = 3
    ends: bool = False
    """Whether the fault ends the command, which is typed again then."""
    again: tuple[str, ...] = ()
    """Other overrides, then."""
    on_s3: bool = False
    compares_losses: bool = False
    """Not digests: sums are in another order."""


def _find_host(command: RunningStage, title: str) -> tuple[int, str]:
    """A host without the driver that is at work under that title, and how far the command is."""

    def hosts() -> list[int]:
        return [host for host in (2, 3) if find_processes(host, title)]

    _wait_for_progress(command)
    command.wait_until(lambda: bool(hosts()))
    return hosts()[0], _progress(command)


def _kill_process(title: str, command: RunningStage) -> str:
    host, done = _find_host(command, title)
    os.kill(find_processes(host, title)[0], signal.SIGKILL)
    return f"{title} on host {host} killed {done}"


def _kill_host(title: str, command: RunningStage) -> str:
    host, done = _find_host(command, title)
    kill_host(host)
    return f"host {host}, which had a {title}: all processes killed {done}"


def _unplug_host(title: str, command: RunningStage) -> str:
    host, done = _find_host(command, title)
    cut_off(host)
    return f"host {host}, which had a {title}: unplugged {done}"


def _kill_driver(command: RunningStage) -> str:
    _wait_for_progress(command)
    done = _progress(command)
    command.process.kill()
    command.process.wait()
    return f"driver killed {done}"


def _add_host(command: RunningStage) -> str:
    _wait_for_progress(command)
    done, since = _progress(command), time.monotonic()
    bring_up(3)
    came = time.monotonic() - since
    command.wait_until(lambda: bool(find_processes(3, RENDERER)))
    took = time.monotonic() - since - came
    return f"host 3 started {done}; there after {came:.1f} s, rendering {took:.1f} s later"


def _take_host_away(title: str, command: RunningStage) -> str:
    """A notice, then the loss."""
    host, done = _find_host(command, title)
    since = time.monotonic()
    announce_loss(host, _NOTICE_S)
    time.sleep(max(_NOTICE_S - (time.monotonic() - since), 0))
    then = _progress(command) if command.process.poll() is None else "when all was over"
    kill_host(host)
    if command.stage == "train":
        then += f", {saved_steps(command.place)} of them in a checkpoint"
    return f"host {host} announced as lost {done}; killed {then}"


def _fill_object_stores(command: RunningStage) -> str:
    """Twice the room of every node, held for as long as the command is at work."""
    script = ROOT / "benchmarks" / "faults" / "fill_store.py"
    megabytes = 2 * OBJECT_STORE_MB
    filler = subprocess.Popen(
        command_on(1, sys.executable, str(script), str(megabytes)),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert filler.stdout is not None
        filler.stdout.readline()
        done = f"{command.age_s:.0f} s after the start"
        late = "" if command.process.poll() is None else ", when the command had ended already"
        command.process.wait(280)
    finally:
        filler.terminate()
        filler.wait()
    return f"{megabytes} MB put into each node's {OBJECT_STORE_MB} MB {done}{late}"


def _stop_storage(server: S3Server, command: RunningStage) -> str:
    name = command.place.name
    command.wait_until(lambda: server.num_objects(name, ".tar") >= 8)
    count = server.num_objects(name, ".tar")
    done = f"{command.age_s:.0f} s after the start, with {count} of 80 objects"
    server.stop()
    time.sleep(_DOWN_S)
    server.start()
    return f"endpoint refused connections for {_DOWN_S} s {done}"


def _wait_for_progress(command: RunningStage) -> None:
    """Four shards; forty steps and a checkpoint, or ten without one; nothing in `eval`."""
    place = command.place
    if command.stage in ("real", "generate"):
        command.wait_until(lambda: place.num_shards() >= 4)
    elif command.stage == "train" and _NO_CHECKPOINTS in command.overrides:
        command.wait_until(lambda: place.num_lines() >= 1)
    elif command.stage == "train":
        command.wait_until(lambda: place.num_lines() >= 4 and place.checkpoint.exists())


def _progress(command: RunningStage) -> str:
    done = f"{command.age_s:.0f} s after the start"
    if command.stage in ("real", "generate"):
        return f"{done}, with {command.place.num_shards()} of 40 shards"
    if command.stage == "train":
        return f"{done}, after {10 * command.place.num_lines()} of 100 steps"
    return done


def list_rows(server: S3Server) -> list[FaultRow]:
    """All rows, in the order of the table."""
    saves, probes = (_MANY_CHECKPOINTS,), ("ray.eval_workers=3",)
    alone = ("ray.train_workers=1",)

    def on(disturb: Callable[[str, RunningStage], str], title: str) -> Disturb:
        return partial(disturb, title)

    return [
        FaultRow("packer-killed", "real", on(_kill_process, PACKER)),
        FaultRow("real-host-killed", "real", on(_kill_host, PACKER)),
        FaultRow("real-host-cut-off", "real", on(_unplug_host, PACKER)),
        FaultRow("real-driver-killed", "real", _kill_driver, ends=True),
        FaultRow("renderer-killed", "generate", on(_kill_process, RENDERER)),
        FaultRow("generate-host-killed", "generate", on(_kill_host, RENDERER)),
        FaultRow("generate-host-cut-off", "generate", on(_unplug_host, RENDERER)),
        FaultRow("generate-host-joins", "generate", _add_host, num_hosts=2),
        FaultRow("generate-driver-killed", "generate", _kill_driver, ends=True),
        FaultRow("generate-host-preempted", "generate", on(_take_host_away, RENDERER)),
        FaultRow("generate-object-store-full", "generate", _fill_object_stores),
        FaultRow("trainer-killed", "train", on(_kill_process, TRAINER), saves),
        FaultRow("train-host-killed", "train", on(_kill_host, TRAINER), saves),
        FaultRow("train-host-cut-off", "train", on(_unplug_host, TRAINER), saves),
        FaultRow("train-driver-killed", "train", _kill_driver, saves, ends=True),
        FaultRow("train-host-preempted", "train", on(_take_host_away, TRAINER), (_NO_CHECKPOINTS,)),
        FaultRow("train-other-workers", "train", _kill_driver, saves, ends=True, again=alone,
            compares_losses=True),
        FaultRow("eval-host-killed", "eval", on(_kill_host, PROBE), probes),
        FaultRow("eval-host-cut-off", "eval", on(_unplug_host, PROBE), probes),
        FaultRow("eval-object-store-full", "eval", _fill_object_stores, probes),
        FaultRow(f"storage-gone-{_DOWN_S}-s", "generate", partial(_stop_storage, server),
                 on_s3=True),
    ]  # fmt: skip
