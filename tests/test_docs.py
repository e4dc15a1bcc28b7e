"""What the pages say: their links, and that both READMEs have the same commands and figures."""

import functools
import glob
import os
import re

import pytest
from conftest import ROOT

PAGES = sorted(
    os.path.relpath(path, ROOT)
    for pattern in ("*.md", "data/*.md", "docs/*.md", "docs/logs/*.md")
    for path in glob.glob(os.path.join(ROOT, pattern))
)
READMES = "README.md", "README.zh-CN.md"


@functools.cache
def text(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        return file.read()


def without_code(page):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text(page), flags=re.DOTALL)


def anchors(page):
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(page))
    broken = []
    for target in targets:
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        there = os.path.exists(os.path.join(ROOT, path))
        if not there or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


def figures(page):
    """Numbers of three digits and more, or with decimals, outside of code and links."""
    prose = re.sub(r"\]\([^)]*\)|<http[^>]*>|\d{4}-\d\d-\d\d|arXiv \S+", "", without_code(page))
    found = re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\d)", prose)
    return [n for n in found if "." in n or len(n.replace(",", "")) > 2]


def commands(page):
    """Lines of the page's blocks of commands, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text(page), re.DOTALL)
    lines = (line.partition("#")[0].strip() for line in "".join(blocks).splitlines())
    return [line for line in lines if line]


def test_both_readmes_have_the_same_commands_and_figures():
    one, other = (
        [line for line in commands(page) if not line.startswith("git clone")] for page in READMES
    )
    assert one == other and len(one) > 15
    one, other = (sorted(figures(page)) for page in READMES)
    assert one == other


@pytest.mark.parametrize("page", READMES)
def test_a_readme_is_read_to_its_end(page):
    assert text(page).count("\n") <= 150
