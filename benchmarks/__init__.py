"""Benchmarks: each prints a table of ratios measured side by side. No stage needs them."""

from pipeline.engine.openmp import limit_spinning

limit_spinning()  # before any of them imports torch
