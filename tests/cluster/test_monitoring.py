"""Rates of a stage as metrics of Ray's."""

from __future__ import annotations

import re
import sys
import time
import urllib.request

import pytest

from tests.support.command_line import run_process
from tests.support.ray_process import ray_process
from tests.support.workspace import environment

COUNTED = """
from pipeline.cluster import monitoring
monitoring.count("samples_rendered", 100, "a-pool")
monitoring.count("samples_rendered", 28, "a-pool")
monitoring.show("loss", 2.5, "a-run")
"""
WITHOUT = """
import sys
from pipeline.cluster import monitoring
monitoring.count("samples_rendered", 100, "a-pool")
monitoring.show("loss", 2.5, "a-run")
print("ray" in sys.modules)
"""


@pytest.mark.slow
def test_meters_without_ray_do_nothing_and_import_nothing() -> None:
    assert run_process([sys.executable, "-c", WITHOUT]) == (0, "False\n", "")


@pytest.mark.ray
@pytest.mark.slow
def test_meters_on_ray_are_offered_to_prometheus() -> None:
    options = "include_dashboard=False, _metrics_export_port=port"
    with ray_process(options, COUNTED, environment()) as port:
        url, wanted = f"http://127.0.0.1:{port}/metrics", "ray_squeeze_span_loss{"
        deadline = time.monotonic() + 60
        text = ""
        while wanted not in text and time.monotonic() < deadline:
            time.sleep(1)
            with urllib.request.urlopen(url) as response:
                text = response.read().decode()
    (loss,) = re.findall(r"^ray_squeeze_span_loss\{.*work=\"a-run\"\} (.+)$", text, re.MULTILINE)
    pattern = r"^ray_squeeze_span_samples_rendered_total\{.*\} (.+)$"
    counts = re.findall(pattern, text, re.MULTILINE)
    assert float(loss) == 2.5
    assert [float(count) for count in counts] == [128]
