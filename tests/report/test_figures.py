"""Curves of a training: what is in which picture."""

from __future__ import annotations

import base64

import pytest

from pipeline.report.figures import loss_curves, monitor_curves

LINE = {"samples_seen": 100, "loss": 3.0, "vicreg_variance": 1.0, "real_std": 0.5, "epoch": 1.0}
KNN = {"monitor_knn_top1": 60.0}
SPREAD = {"monitor_alignment": 0.5, "monitor_uniformity": -2.0}


def text_of(uri: str | None) -> str:
    """The SVG, in which matplotlib has every text as a comment."""
    assert uri is not None
    return base64.b64decode(uri.partition(",")[2]).decode()


@pytest.mark.parametrize(
    ("seen", "titles"),
    [(KNN, ["kNN, top-1, %"]), (SPREAD, ["alignment of two views", "uniformity of all images"])],
)
def test_monitor_curves_have_a_panel_for_each_measure(
    seen: dict[str, float], titles: list[str]
) -> None:
    """Not every line of metrics has one."""
    svg = text_of(monitor_curves([LINE | seen, {**LINE, "samples_seen": 200}]))
    assert [title in svg for title in titles] == [True] * len(titles)
    assert svg.count("samples seen") == len(titles)


def test_monitor_curves_of_a_training_without_a_monitor_are_none() -> None:
    assert monitor_curves([LINE]) is None
    assert monitor_curves([]) is None


def test_loss_curves_leave_out_what_a_monitor_saw() -> None:
    svg = text_of(loss_curves([LINE, LINE | KNN | SPREAD]))
    assert "variance loss" in svg
    assert "monitor" not in svg
