"""Benchmarks: each prints a table of ratios measured side by side. No stage needs them."""
