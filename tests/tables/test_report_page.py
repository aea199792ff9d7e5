"""The report's page in a headless Chromium, from file://: nothing fails, nothing is fetched."""

import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from planted_cells import plant_cell, plant_sizes, plant_tables
from planted_evaluations import plant_evaluated

from tokd_lightning.report.build import build
from tokd_lightning.report.page import html
from tokd_lightning.report.reader import Reader
from tokd_lightning.tables.grid import student
from tokd_lightning.tables.paper import TABLES, paper_table

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
BOTH = student("ffpp", "resnet18_thin", "tokd", "both")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with all tables filled, three seeds of each student, and two runs evaluated."""
    runs = tmp_path_factory.mktemp("full")
    plant_tables(runs, list(TABLES), 3, scored=False)
    for number in range(2):
        plant_evaluated(runs, f"ffpp-c40_resnet18_thin_own_s{number}", 1.0 + number, "ffpp-c40")
    plant_sizes(runs)
    page = runs / "page.html"
    page.write_text(html(build([paper_table(key) for key in TABLES], Reader(runs))))
    return page


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with two cells of Table 3 run, one of which has a corrupt file."""
    runs = tmp_path_factory.mktemp("begun")
    for seed in range(2):
        plant_cell(runs, replace(BOTH, seed=seed), 0.85)
    (plant_cell(runs, replace(BOTH, branches="rgb"), 0.8) / "metrics.json").write_text("{")
    page = runs / "page.html"
    page.write_text(html(build([paper_table("table3")], Reader(runs))))
    return page


def browse(page: Path, profile: Path, fragment: str = "") -> tuple[str, list[str]]:
    """Open a page; returns its DOM after its scripts ran, and what its console says."""
    assert CHROMIUM
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += ["--disable-background-networking", "--no-first-run", "--virtual-time-budget=3000"]
    options += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, f"{page.as_uri()}{fragment}"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console


@pytest.mark.slow
@browser
def test_the_page_opens_from_a_file_without_a_word_on_the_console(full: Path, tmp_path: Path):
    dom, console = browse(full, tmp_path, "#metric=auc")
    assert console == []
    assert '<body data-metric="auc">' in dom
    assert re.search(r'name="metric" value="auc"[^>]*>', dom)
    assert "<dialog" in dom
    assert '<dialog aria-labelledby="about" open' not in dom


@pytest.mark.slow
@browser
def test_a_console_error_would_be_seen(begun: Path, tmp_path: Path):
    page = tmp_path / "broken.html"
    page.write_text(begun.read_text().replace('"use strict";', '"use strict"; nothing.there();'))
    dom, console = browse(page, tmp_path / "profile", "#metric=auc")
    assert "ReferenceError" in console[0]
    assert '<body data-metric="acc">' in dom


@pytest.mark.slow
@browser
def test_a_place_opens_all_about_its_cell(begun: Path, tmp_path: Path):
    dom, console = browse(begun, tmp_path, f"#cell={BOTH.name}")
    assert console == []
    dialog = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert re.match(r"<dialog[^>]* open", dialog)
    told = " ".join(re.sub(r"<[^>]+>", " ", dialog).split())
    for words in (
        f"{BOTH.name}: done",
        "seed 0",
        "seed 1",
        "mean ± sd",
        "Balanced accuracy",
        "Majority",
        "80.00",
        "1b1eff3cf3a9",  # the commit
        "H100",
        "3 h 11 min",
        "tokd fit --config experiments/ffpp_res18t.yaml --seed_everything 1",
        "tokd test --config",
        "tokd fit --config experiments/ffpp_teacher.yaml",
    ):
        assert words in told, told
    assert 'title="1b1eff3cf3a9a1f0a7a8f6a5e4d3c2b1a0998877"' in dialog


@pytest.mark.slow
@browser
@pytest.mark.parametrize(("width", "cut"), [(390, True), (1265, False)])
def test_tables_fit_a_laptop_and_say_so_where_they_scroll(
    full: Path, tmp_path: Path, width: int, cut: bool
):
    look = (
        "for (const box of document.querySelectorAll('main section[id^=table] .scroll')) {"
        "  const over = box.scrollWidth > box.clientWidth + 1;"
        "  const hint = box.previousElementSibling;"
        "  const said = hint && hint.className.includes('hint') && hint.offsetHeight > 0;"
        "  parent.postMessage([box.closest('section').id, over, Boolean(said)].join(), '*'); }"
    )
    inner, outer = tmp_path / "inner.html", tmp_path / "outer.html"
    inner.write_text(full.read_text().replace("</body>", f"<script>{look}</script></body>"))
    outer.write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:800px;border:0"></iframe>'
        "<p></p><script>onmessage = (e) => {"
        "  document.querySelector('p').textContent += e.data + ' ' }</script>"
    )
    dom, _ = browse(outer, tmp_path / "profile")
    found = [text.split(",") for text in re.search(r"<p>(.*?)</p>", dom)[1].split()]
    assert len(found) == 7
    assert all(over == said for _, over, said in found)
    assert {key: over for key, over, _ in found}["table3"] == str(cut).lower()


@pytest.mark.slow
@browser
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_is_no_wider_than_its_window(full: Path, tmp_path: Path, width: int):
    said = "parent.postMessage([document.documentElement.scrollWidth, innerWidth].join(), '*')"
    inner, outer = tmp_path / "inner.html", tmp_path / "outer.html"
    inner.write_text(full.read_text().replace("</body>", f"<script>{said}</script></body>"))
    outer.write_text(
        f'<iframe src="inner.html" style="width:{width}px;height:800px;border:0"></iframe>'
        "<p></p><script>onmessage = (e) => { document.querySelector('p').textContent = e.data }"
        "</script>"
    )
    dom, _ = browse(outer, tmp_path / "profile")
    content, window = re.search(r"<p>(\d+),(\d+)</p>", dom).groups()
    assert int(window) == width
    assert int(content) <= width


@pytest.mark.slow
def test_the_full_page_is_small_and_needs_nothing_else(full: Path):
    page = full.read_text()
    assert 500_000 < len(page.encode()) < 3_000_000
    assert "249 of 249 cells done" in page
    assert 'id="evaluations"' in page
    text = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.findall(r"https?://|@import|url\((?!#)|src=|//cdn", text)
    links = re.findall(r'href="([^"]*)"', page)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}


class Tags(HTMLParser):
    """Counts ids, and sees that tags are closed in order."""

    VOID = frozenset(["meta", "link", "input", "br"])

    def __init__(self) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids.update(value for key, value in attrs if key == "id" and value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids.update(value for key, value in attrs if key == "id" and value)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("which", ["full", "begun"])
def test_tags_are_closed_ids_are_there_once_and_links_lead_somewhere(which: str, request):
    text = request.getfixturevalue(which).read_text()
    tags = Tags()
    tags.feed(text)
    assert (tags.open, tags.wrong) == ([], [])
    assert {name for name, number in tags.ids.items() if number > 1} == set()
    assert set(re.findall(r'href="#([\w-]+)"', text)) <= set(tags.ids)


def test_every_place_has_its_details(full: Path):
    text = full.read_text()
    data = json.loads(re.search(r'id="cells">(.*?)</script>', text, re.DOTALL)[1])
    keys = set(re.findall(r'data-cell="([^"]+)"', text))
    assert keys == set(data["cells"])
    assert len(keys) == 256
    for cell in data["cells"].values():
        assert cell["commands"]
        assert all(len(run["made"]) == len(data["made"]) for run in cell["runs"])


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_that_wcag_asks_for(full: Path, scheme: str):
    found = re.findall(r":root \{(.*?)\n\s*\}", full.read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", found[scheme == "dark"]))
    grounds = [("ground", name) for name in ("ink", "soft", "ours", "paper")]
    grounds += [("panel", "ink"), ("tint", "ink"), ("tint", "soft"), ("tint", "paper")]
    for ground, name in [*grounds, ("warn-ground", "warn"), ("bad-ground", "bad")]:
        one, other = sorted((luminance(colours[ground]), luminance(colours[name])))
        assert (other + 0.05) / (one + 0.05) >= 4.5, (ground, name)
