"""Benchmarks: each prints a table of ratios measured side by side. No stage needs them."""

from pipeline.openmp import wait_asleep

wait_asleep()  # before any of them imports torch
