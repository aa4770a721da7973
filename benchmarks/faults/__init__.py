"""Faults on several hosts with a Ray node each, and what becomes of a run: docs/faults.md."""
