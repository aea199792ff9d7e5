"""The pages of `make docs`."""

import os
import re
import subprocess
import sys

import pytest
from pages import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    told = subprocess.run(
        build,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "WARNING" not in told.stderr
    return out


def pages(site):
    return {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}


def test_every_room_has_its_classes_once(site):
    for room, name in {
        "distillation": "tokd_lightning.distillation.tokd.TOKD",
        "models": "tokd_lightning.models.student.Student",
        "modules": "tokd_lightning.modules.distill.DistillModule",
        "data": "tokd_lightning.data.datamodule.FrameDataModule",
        "deploy": "tokd_lightning.deploy.export.export",
        "frequency": "tokd_lightning.frequency.high_pass",
    }.items():
        assert pages(site)[f"api/{room}.html"].count(f'id="{name}"') == 1


def test_formulas_are_drawn_and_roles_are_links(site):
    for name, text in pages(site).items():
        shown = re.sub(r"<(code|pre|math).*?</\1>", "", text, flags=re.DOTALL)
        assert not re.search(r":(math|func|class|meth|attr):|\.\. math::|\\frac|\\\(", shown), name
    distillation = pages(site)["api/distillation.html"]
    assert distillation.count('display="block"') >= 4
    assert 'href="#tokd_lightning.distillation.rotation.Rotation"' in distillation


def test_the_first_page_is_the_readme_with_links_that_lead_on(site):
    first = pages(site)["index.html"]
    assert "make demo" in first
    assert 'href="data.html"' in first
    assert "docs/data.md" not in first


def test_nothing_is_fetched_from_elsewhere(site):
    for name, text in pages(site).items():
        fetched = re.findall(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?(https?:[^\s\">]+)", text
        )
        assert fetched == [], name
