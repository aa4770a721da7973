"""The picture of the spaces: everything is in the page, and nothing is fetched."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.records.embeddings import Embeddings
from pipeline.report import scatter
from pipeline.report.scatter import class_colours, make_scatter, make_sheet
from pipeline.report.sections import template
from tests.support.embedded import make_embeddings


def flat_images(levels: Sequence[int], side: int = 8) -> np.ndarray:
    """uint8 [N, 3, side, side] of one grey each."""
    shape = (len(levels), 3, side, side)
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], shape)


def noise(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side)).astype(np.uint8)


def render(embeddings: Embeddings, images: np.ndarray) -> str:
    page: str = template(Path(scatter.__file__).parent, "scatter.html.j2").render(
        scatter=make_scatter(embeddings, images)
    )
    return page


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="scatter-data">(.*?)</script>', page)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def pixels_of(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_scatter_page_fetches_nothing() -> None:
    page = render(make_embeddings(40), noise(40, 16))
    assert re.findall(r'(?:src|href|srcset|action)\s*=\s*"(?!data:image/png;base64,)', page) == []
    code = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.search(r"https?:|[\"'(]//|@import|\bimport\b|\bfetch\b|XMLHttp", code)
    assert set(re.findall(r"url\(..", code)) == {'url("$'}  # of the script: the sheet's data URI


def test_scatter_page_has_every_point_label_and_confidence() -> None:
    embeddings = make_embeddings(50, num_classes=4)
    data = data_of(render(embeddings, noise(50, 8)))
    assert data["labels"] == embeddings.labels.tolist()
    np.testing.assert_allclose(data["confidences"], 100 * embeddings.confidences, atol=0.5)
    assert data["names"] == list(embeddings.class_names)
    for points, space in zip(data["points"], embeddings.spaces, strict=True):
        found = np.array(points).reshape(50, 2) / data["steps"] * [1, -1]
        assert min(points) >= 0
        assert max(points) <= data["steps"]
        spans = np.ptp(space.coordinates, axis=0)
        expected = space.coordinates / spans.max()  # one scale for both axes
        np.testing.assert_allclose(
            found - found.mean(0), expected - expected.mean(0), rtol=0, atol=2e-5
        )


def test_scatter_page_shows_agreement_accuracy_and_protocols() -> None:
    page = render(make_embeddings(20), noise(20, 8))
    for space, agreement in (("discriminator features", 60.0), ("mapped latents w", 61.0)):
        assert re.search(rf"<b>{space}</b>[^<]*label agreement {agreement}\s%", page)
    assert "Labels by a classifier, right for 91.5 % of the images." in page


def test_scatter_of_three_spaces_has_three_panels() -> None:
    page = render(make_embeddings(20, names=("w", "generator", "student")), noise(20, 8))
    assert page.count("<canvas") == 3
    assert "--panels: 3" in page
    assert len(data_of(page)["points"]) == 3


def test_scatter_page_without_javascript_has_a_still_picture() -> None:
    embeddings = make_embeddings(300, num_classes=2)
    page = render(embeddings, noise(300, 4))
    found = re.search(r'<noscript>.*?src="([^"]+)".*?</noscript>', page, re.DOTALL)
    assert found is not None
    pixels = pixels_of(found[1]).astype(int)
    for colour in class_colours(2):
        wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(-1) < 12).sum() > 300  # of its dots


def test_scatter_class_names_are_text_not_markup() -> None:
    hostile = "</script><script>alert(1)</script>"
    embeddings = replace(make_embeddings(20, num_classes=1), class_names=(hostile,))
    page = render(embeddings, noise(20, 8))
    assert "alert(1)</script>" not in page
    assert data_of(page)["names"] == [hostile]


@pytest.mark.parametrize(("num_classes", "num_buttons"), [(3, 4), (20, 21), (21, 0)])
def test_scatter_legend_toggles_up_to_twenty_classes(num_classes: int, num_buttons: int) -> None:
    page = render(make_embeddings(60, num_classes=num_classes), noise(60, 4))
    assert page.count('<button type="button"') == num_buttons
    assert ("colour-blind" in page) == (num_classes <= 10)


@pytest.mark.parametrize("num_classes", [1, 10, 11, 20, 100])
def test_class_colours_are_distinct(num_classes: int) -> None:
    colours = class_colours(num_classes)
    assert len(set(colours)) == len(colours) == num_classes
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)


def test_make_sheet_has_every_image_in_its_cell() -> None:
    levels = [0, 40, 80, 120, 160, 200, 240]
    sheet = make_sheet(flat_images(levels))
    assert (sheet.side, sheet.count) == (8, 7)
    pixels = pixels_of(sheet.uri)
    for index, level in enumerate(levels):
        row, column = divmod(index, sheet.columns)
        cell = pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        assert np.abs(cell.astype(int) - level).max() <= 2


@pytest.mark.parametrize(("side", "expected"), [(16, 16), (32, 32), (64, 32)])
def test_make_sheet_thumbnails_are_at_most_32_px(side: int, expected: int) -> None:
    assert make_sheet(noise(4, side)).side == expected


@pytest.mark.slow
def test_make_sheet_that_would_be_too_large_has_smaller_thumbnails_and_then_fewer() -> None:
    images = noise(100, 32)
    whole = len(make_sheet(images).uri)
    smaller = make_sheet(images, whole - 1)
    assert (smaller.side, smaller.count) == (16, 100)
    fewer = make_sheet(images, len(smaller.uri) // 2)
    assert fewer.side == 16
    assert 20 < fewer.count < 60
    assert len(fewer.uri) <= len(smaller.uri) // 2


@pytest.mark.slow
def test_make_sheet_of_two_thousand_images_fits_the_page() -> None:
    sheet = make_sheet(noise(2000, 32))
    assert sheet.count == 2000
    assert len(sheet.uri) <= 1_500_000


def test_make_scatter_same_input_gives_the_same_page() -> None:
    embeddings, images = make_embeddings(40), noise(40, 16)
    assert render(embeddings, images) == render(embeddings, images)
