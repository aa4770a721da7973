"""Pages fit a screen, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/*.md"),
    *ROOT.glob("benchmarks/*.md"),
    *ROOT.glob("ray_configs/*.md"),
]
WIDTH = 120
README_LINES = 120


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_page_has_no_line_that_is_wider_than_a_screen(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [number for number, line in enumerate(lines, 1) if len(line) > WIDTH]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_of_a_page_lead_to_files_and_headings_that_exist(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    broken = []
    for link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_page_is_reached_from_the_readme() -> None:
    reached = set(re.findall(r"\]\((docs/\w+\.md)", (ROOT / "README.md").read_text("utf-8")))
    assert reached == {name(path) for path in ROOT.glob("docs/*.md")}


def test_contributing_has_the_sentence_of_every_room() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    rooms = [ROOT / "shards", *(path.parent for path in (ROOT / "pipeline").glob("*/__init__.py"))]
    for room in rooms:
        sentence = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
        assert f"{room.name}/ {sentence}" in text


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES
