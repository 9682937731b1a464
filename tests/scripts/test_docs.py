"""The repository's own pages: no link leads nowhere, every node has its help and a picture."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELP = ROOT / "web" / "docs"
PAGES = sorted(
    page
    for folder in (".", "assets", "benchmarks", "demo_model", "docs", "web/docs")
    for page in (ROOT / folder).glob("*.md")
)
LINK = re.compile(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"")
ABSOLUTE = re.compile(r"https://[\w-]+(\.[\w-]+)+(/[\w.~%/#-]*)?")
OWN_PATH = re.compile(
    r"`((?:assets|benchmarks|demo_model|docs|nodes|refany3d_core|scripts|tests|web|workflows)"
    r"/[\w/.-]+)`"
)
TEST_FILE = re.compile(r"`(test_\w+\.py)`")


def text_of(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that a host of repositories gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", name).strip().lower().replace(" ", "-") for name in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_leads_nowhere(page: Path):
    text = text_of(page)
    for link in (first or second for first, second in LINK.findall(text)):
        if ":" in link:
            assert ABSOLUTE.fullmatch(link), link
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file() or target.is_dir(), link
        assert not anchor or anchor in anchors(target), link
    for name in OWN_PATH.findall(text):
        assert (ROOT / name).exists(), name
    for name in TEST_FILE.findall(text):
        assert next((ROOT / "tests").rglob(name), None), name


def test_a_help_page_links_to_pictures_and_addresses_only():
    """ComfyUI's page finds a help page's pictures, but takes another link for one of its own."""
    for page in HELP.glob("*.md"):
        for link in re.findall(r"(?<!\!)\[[^\]]*\]\(([^)]+)\)", text_of(page)):
            assert ABSOLUTE.fullmatch(link), (page.name, link)


def test_every_help_page_has_a_small_picture():
    for page in HELP.glob("RefAny3D_*.md"):
        names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text_of(page))
        assert names, f"{page.name}: scripts/help_pictures.py makes one"
        assert all((HELP / name).stat().st_size <= 60_000 for name in names), page.name
