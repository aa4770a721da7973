"""Rates of a stage as metrics of Ray's."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.workspace import ROOT, environment

ON_RAY = """
import logging, sys, ray
ray.init(address="local", num_cpus=1, include_dashboard=False,
         _metrics_export_port=int(sys.argv[1]), object_store_memory=100 << 20,
         logging_level=logging.ERROR)
from pipeline import meters
meters.count("samples_rendered", 100, "a-pool")
meters.count("samples_rendered", 28, "a-pool")
meters.show("loss", 2.5, "a-run")
print("ready", flush=True)
sys.stdin.read()
ray.shutdown()
"""
WITHOUT = """
import sys
from pipeline import meters
meters.count("samples_rendered", 100, "a-pool")
meters.show("loss", 2.5, "a-run")
print("ray" in sys.modules)
"""


def test_meters_without_ray_do_nothing_and_import_nothing() -> None:
    command = [sys.executable, "-c", WITHOUT]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


@pytest.mark.ray
@pytest.mark.slow
def test_meters_on_ray_are_offered_to_prometheus() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", ON_RAY, str(port)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        while process.stdout.readline() not in ("ready\n", ""):
            pass
        url, wanted = f"http://127.0.0.1:{port}/metrics", "ray_squeeze_span_loss{"
        deadline = time.monotonic() + 60
        text = ""
        while wanted not in text and time.monotonic() < deadline:
            time.sleep(1)
            with urllib.request.urlopen(url) as response:
                text = response.read().decode()
    finally:
        process.communicate("")
    (loss,) = re.findall(r"^ray_squeeze_span_loss\{.*work=\"a-run\"\} (.+)$", text, re.MULTILINE)
    pattern = r"^ray_squeeze_span_samples_rendered_total\{.*\} (.+)$"
    counts = re.findall(pattern, text, re.MULTILINE)
    assert float(loss) == 2.5
    assert [float(count) for count in counts] == [128]
