"""The hosts of `ray_configs/local-multinode.sh`: making them, killing them, and what runs there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import ROOT
from shards.errors import UserError

_SCRIPT = ROOT / "ray_configs" / "local-multinode.sh"
BRIDGE_IP = "10.77.0.254"
"""This machine, as the hosts see it."""
S3_PORT = 5077
OBJECT_STORE_MB = 80
MOST_HOSTS = 3


def environment() -> dict[str, str]:
    """Of every node and command: one thread each, and a way to the S3 server of the benchmark."""
    return {
        **os.environ,
        "RAY": str(Path(sys.executable).with_name("ray")),
        "OBJECT_STORE_MB": str(OBJECT_STORE_MB),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{BRIDGE_IP}:{S3_PORT}",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def command_on(host: int, *command: str) -> list[str]:
    """What runs `command` on a host, under its own process id."""
    return [str(_SCRIPT), "exec", str(host), *command]


def bring_up(num_hosts: int) -> None:
    """Let hosts 1 to `num_hosts` have a living node, and no others."""
    for host in range(num_hosts + 1, MOST_HOSTS + 1):
        if find_processes(host, ""):
            kill_host(host)
    _call("up", str(num_hosts))


def kill_host(host: int) -> None:
    """SIGKILL everything on it."""
    _call("kill-node", str(host))


def cut_off(host: int) -> None:
    """Unplug it: nothing comes from it any more, not even that a connection has ended."""
    _call("cut-off", str(host))


def announce_loss(host: int, after_s: int) -> None:
    """Tell Ray that it will be taken away."""
    _call("drain", str(host), str(after_s))


@contextmanager
def no_hosts_left() -> Iterator[None]:
    """Hosts that are there before or after the block are removed."""
    _call("down")
    try:
        yield
    finally:
        _call("down")


def find_processes(host: int, title: str) -> list[int]:
    """Ids of the processes on a host whose command line has `title` in it, such as
    `ray::_render_task`.
    """
    listed = subprocess.run(
        ["ip", "netns", "pids", f"span{host}"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in listed.stdout.split() if title in _command_line(int(pid))]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _call(*arguments: str) -> None:
    done = subprocess.run(
        [str(_SCRIPT), *arguments],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise UserError(f"local-multinode.sh {' '.join(arguments)}: {done.stderr.strip()}")
