"""What README.md and the pages of docs/ name is there: paths, modules, links, and every page in the index."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATH = re.compile(r"(?<![\w./-])(?:\.\./)*((?:serve_app|batch|benchmarks|tests|docs)/[\w./*-]*)")
NAME = re.compile(r"(?<![\w./])serve_app(?:\.\w+)+")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def list_anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_paths_exist(page):
    named = {path.rstrip(".") for path in PATH.findall(page.read_text("utf-8"))}
    assert [path for path in sorted(named) if not any(ROOT.glob(path.rstrip("/")))] == []


@every_page
def test_modules_exist_with_what_is_named_in_them(page):
    text = page.read_text("utf-8")
    for name in NAME.findall(text):
        pkgutil.resolve_name(name)
    run = re.findall(r"python -m ([\w.]+\w)", text)
    assert [module for module in run if importlib.util.find_spec(module) is None] == []


@every_page
def test_links_lead_to_a_page_and_to_a_heading_in_it(page):
    for link, anchor in LINK.findall(page.read_text("utf-8")):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in list_anchors(target), f"{link}#{anchor}"


def test_the_index_lists_every_page():
    listed = {(INDEX.parent / link).resolve() for link, _ in LINK.findall(INDEX.read_text("utf-8"))}
    assert set(PAGES) - listed == {INDEX}
