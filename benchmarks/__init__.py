"""Ratios against a named rival, measured side by side. No stage needs them."""

from pipeline.cluster.openmp import limit_spinning

limit_spinning()  # before any of them imports torch
