"""Ray in a process of its own, which offers something at a port."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.workspace import ROOT

START = """
import logging, sys, ray
port = int(sys.argv[1])
ray.init(address="local", num_cpus=1, object_store_memory=100 << 20, logging_level=logging.ERROR,
         {options})
{then}
print("ready", flush=True)
sys.stdin.read()
ray.shutdown()
"""


@contextmanager
def ray_process(options: str, then: str, environment: Mapping[str, str]) -> Iterator[int]:
    """The `port`, free before, that `options` of ray.init give to Ray, which has run `then`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", START.format(options=options, then=then), str(port)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        while process.stdout.readline() not in ("ready\n", ""):
            pass
        yield port
    finally:
        process.communicate("")
