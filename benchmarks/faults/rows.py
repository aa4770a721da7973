"""The faults: what is done to a command while it is at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.faults.hosts import (
    OBJECT_STORE_MB,
    ROOT,
    announce_loss,
    bring_up,
    command_on,
    cut_off,
    environment,
    find_processes,
    kill_host,
)
from benchmarks.faults.runs import Command, saved_steps
from benchmarks.faults.s3_server import S3Server

RENDERER, TRAINER, PROBE = "ray::_render_task", "ray::RayTrainWorker", "ray::_run_task"
_DOWN_S = 20
_NOTICE_S = 10
_NO_CHECKPOINTS = "train.checkpoint_interval_s=3600"
_MANY_CHECKPOINTS = "train.checkpoint_interval_s=2"


@dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    stage: Literal["generate", "train", "eval"]
    disturb: Callable[[Command], str]
    """Does it while the command is at work, and says what was done and when."""
    overrides: tuple[str, ...] = ()
    num_hosts: int = 3
    ends: bool = False
    """Whether the fault ends the command, which is typed again then."""
    again: tuple[str, ...] = ()
    """Other overrides, then."""
    on_s3: bool = False
    compares_losses: bool = False
    """Not digests: sums are in another order."""


def _kill_process(title: str) -> Callable[[Command], str]:
    def disturb(command: Command) -> str:
        _wait_for_progress(command)
        command.wait_until(lambda: any(find_processes(host, title) for host in (2, 3)))
        host = next(host for host in (2, 3) if find_processes(host, title))
        pid = find_processes(host, title)[0]
        done = _progress(command)
        os.kill(pid, signal.SIGKILL)
        return f"{title} on host {host} killed {done}"

    return disturb


def _lose_host_of(
    title: str, lose: Callable[[int], None] = kill_host, how: str = "all processes killed"
) -> Callable[[Command], str]:
    def disturb(command: Command) -> str:
        _wait_for_progress(command)
        command.wait_until(lambda: any(find_processes(host, title) for host in (2, 3)))
        host = next(host for host in (2, 3) if find_processes(host, title))
        done = _progress(command)
        lose(host)
        return f"host {host}, which had a {title}: {how} {done}"

    return disturb


def _kill_driver(command: Command) -> str:
    _wait_for_progress(command)
    done = _progress(command)
    command.process.kill()
    command.process.wait()
    return f"driver killed {done}"


def _add_host(command: Command) -> str:
    _wait_for_progress(command)
    done, since = _progress(command), time.monotonic()
    bring_up(3)
    came = time.monotonic() - since
    command.wait_until(lambda: bool(find_processes(3, RENDERER)))
    took = time.monotonic() - since - came
    return f"host 3 started {done}; there after {came:.1f} s, rendering {took:.1f} s later"


def _take_host_away(title: str) -> Callable[[Command], str]:
    """A notice, then the loss."""

    def disturb(command: Command) -> str:
        _wait_for_progress(command)
        command.wait_until(lambda: any(find_processes(host, title) for host in (2, 3)))
        host = next(host for host in (2, 3) if find_processes(host, title))
        done, since = _progress(command), time.monotonic()
        announce_loss(host, _NOTICE_S)
        time.sleep(max(_NOTICE_S - (time.monotonic() - since), 0))
        then = _progress(command) if command.process.poll() is None else "when all was over"
        kill_host(host)
        if command.stage == "train":
            then += f", {saved_steps(command.place)} of them in a checkpoint"
        return f"host {host} announced as lost {done}; killed {then}"

    return disturb


def _fill_object_stores(command: Command) -> str:
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
        is_early = command.process.poll() is None
        command.process.wait(280)
    finally:
        filler.terminate()
        filler.wait()
    late = "" if is_early else ", when the command had ended already"
    return f"{megabytes} MB put into each node's {OBJECT_STORE_MB} MB {done}{late}"


def _stop_storage(server: S3Server) -> Callable[[Command], str]:
    def disturb(command: Command) -> str:
        name = command.place.name
        command.wait_until(lambda: server.num_objects(name, ".tar") >= 8)
        count = server.num_objects(name, ".tar")
        done = f"{command.age_s:.0f} s after the start, with {count} of 80 objects"
        server.stop()
        time.sleep(_DOWN_S)
        server.start()
        return f"endpoint refused connections for {_DOWN_S} s {done}"

    return disturb


def _wait_for_progress(command: Command) -> None:
    """Four shards; forty steps and a checkpoint, or ten without one; nothing in `eval`."""
    stage, place = command.stage, command.place
    if stage == "generate":
        command.wait_until(lambda: place.num_shards() >= 4)
    elif stage == "train":
        saves = _NO_CHECKPOINTS not in command.overrides
        checkpoint = place.run_dir / "train" / "checkpoint.pt"
        command.wait_until(
            lambda: place.num_lines() >= (4 if saves else 1) and (checkpoint.exists() or not saves)
        )


def _progress(command: Command) -> str:
    stage, place, seconds = command.stage, command.place, f"{command.age_s:.0f} s after the start"
    if stage == "generate":
        return f"{seconds}, with {place.num_shards()} of 40 shards"
    if stage == "train":
        return f"{seconds}, after {10 * place.num_lines()} of 100 steps"
    return seconds


def list_rows(server: S3Server) -> list[Row]:
    """All rows, in the order of the table."""
    trains = (_MANY_CHECKPOINTS,)
    probes = ("ray.eval_workers=3",)
    return [
        Row("renderer-killed", "generate", _kill_process(RENDERER)),
        Row("generate-host-killed", "generate", _lose_host_of(RENDERER)),
        Row("generate-host-cut-off", "generate", _lose_host_of(RENDERER, cut_off, "unplugged")),
        Row("generate-host-joins", "generate", _add_host, num_hosts=2),
        Row("generate-driver-killed", "generate", _kill_driver, ends=True),
        Row("generate-host-preempted", "generate", _take_host_away(RENDERER)),
        Row("generate-object-store-full", "generate", _fill_object_stores),
        Row("trainer-killed", "train", _kill_process(TRAINER), trains),
        Row("train-host-killed", "train", _lose_host_of(TRAINER), trains),
        Row("train-host-cut-off", "train", _lose_host_of(TRAINER, cut_off, "unplugged"), trains),
        Row("train-driver-killed", "train", _kill_driver, trains, ends=True),
        Row("train-host-preempted", "train", _take_host_away(TRAINER), (_NO_CHECKPOINTS,)),
        Row(
            "train-other-workers",
            "train",
            _kill_driver,
            trains,
            ends=True,
            again=("ray.train_workers=1",),
            compares_losses=True,
        ),
        Row("eval-host-killed", "eval", _lose_host_of(PROBE), probes),
        Row("eval-host-cut-off", "eval", _lose_host_of(PROBE, cut_off, "unplugged"), probes),
        Row("eval-object-store-full", "eval", _fill_object_stores, probes),
        Row(f"storage-gone-{_DOWN_S}-s", "generate", _stop_storage(server), on_s3=True),
    ]
