"""What a monitor measures, as `metrics.jsonl` names it. Neighbours: `measure.py` measures, the
progress line and the report show.
"""

from __future__ import annotations

PREFIX = "monitor_"
KNN_TOP1 = f"{PREFIX}knn_top1"
"""Percent."""
ALIGNMENT = f"{PREFIX}alignment"
UNIFORMITY = f"{PREFIX}uniformity"
