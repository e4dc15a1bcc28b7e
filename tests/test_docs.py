"""What the pages say: their links, and that both READMEs have the same commands and figures."""

import functools
import glob
import os
import re
import statistics

import numpy as np
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
    prose = re.sub(r"\]\([^)]*\)|<http[^>]*>|\d{4}-\d\d-\d\d|arXiv\s+\S+", "", without_code(page))
    found = re.findall(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?!\d)", prose)
    years = {"2014", "2018"}
    return [n for n in found if ("." in n or len(n.replace(",", "")) > 2) and n not in years]


# Figures that no log has: whose they are, or how they come about.
KNOWN = {
    "the data": {60_000, 70_000, 10_000, 50_000, 784},
    "the article: its loss without noise, the pictures it draws, a hidden layer": {2200, 225, 1000},
    "the paper": {1980.5, 1500, 4.356},
    "formulas": {
        round(392 * np.log(2 * np.pi), 2),  # the constant left out of the loss
        round(0.01 / 3**0.5, 5),  # root mean square of the noise
        round(-np.log(0.00577), 3),  # the largest log s
        180,  # degrees
    },
    "differences of figures": {683},  # 2883.4 - 2200
    "versions of Python": {3.10, 3.13},
    "tests/test_checkpoint.py: digits of a number; tests/test_crashes.py: files": {400, 480},
    "docs/performance.md: GFLOP and ms of the parts of a step, 864 s / 35.6 s": {
        14.6,
        22.4,
        61.6,
        24.3,
    },
}


def numbers(line):
    return [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", line.replace(",", ""))]


@functools.cache
def logged():
    """All numbers of the logs, sorted; of seeds also the mean and standard deviation of a row."""
    found, seeds = [n for group in KNOWN.values() for n in group], {}
    for path in glob.glob(os.path.join(ROOT, "docs", "logs", "**", "*.*"), recursive=True):
        if path.endswith((".txt", ".csv", ".json")):
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
            for line in lines:
                found += numbers(line)
                row = line[:34].strip(), re.sub(r"seed-\d|-[012]\b", "", path)
                seeds.setdefault(row, []).append(numbers(line[34:]))
                if " at epoch " in line:
                    seeds.setdefault(("best", row[1]), []).append(numbers(line)[:1])
    for rows in seeds.values():
        for values in zip(*rows):
            if len(values) > 1:
                mean = statistics.mean(values)
                found += [mean, statistics.stdev(values)]
                found += [(784 * np.log(256) - mean) / (784 * np.log(2))]  # in bits/dim
    found = np.array(found)
    small = found[found < 1]
    return np.unique(np.concatenate([found, 100 * small, 1000 * small]))  # %, ms


@pytest.mark.parametrize(
    "page", [*READMES, *(p for p in PAGES if p.startswith("docs/") and "logs" not in p)]
)
def test_every_figure_has_its_log(page):
    unknown = set()
    for figure in figures(page):
        value, decimals = float(figure.replace(",", "")), len(figure.partition(".")[2])
        half = 0.5000001 * 10**-decimals
        at = np.searchsorted(logged(), value - half)
        if at == len(logged()) or logged()[at] > value + half:
            unknown.add(figure)
    assert not unknown


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
