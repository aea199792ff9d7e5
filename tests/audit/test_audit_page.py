"""The audit's page in a headless Chromium, on a desk and on a phone, light and dark."""

import sys
from pathlib import Path

import pytest
from planted_audit import plant, scores

from tokd_lightning.audit import audit_run
from tokd_lightning.audit.page import html

sys.path.append(str(Path(__file__).parents[1] / "deploy"))
from browser import Browser

# The least contrast of a text with its ground: WCAG's ratio of luminances.
CONTRAST = """(() => {
  const part = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number);
    return .2126 * part(r) + .7152 * part(g) + .0722 * part(b); };
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== 'rgba(0, 0, 0, 0)') return c; } return 'rgb(255, 255, 255)'; };
  return Math.min(...[...document.querySelectorAll('h1, h2, h3, p, td, th, small, .flag, li, a')]
    .filter((e) => e.textContent.trim() && !e.closest('svg') && !e.closest('.verdict'))
    .map((e) => { const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
      return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); }));
})()"""

NARROWEST = "Math.min(...[...document.querySelectorAll('#verdicts dd')].map(e => e.clientWidth))"


@pytest.mark.slow
def test_the_page_fits_and_can_be_read(tmp_path: Path):
    inverted = scores(seed=1)
    inverted["p_fake"] = 1 - inverted["p_fake"]
    elsewhere = {"celebdf-original": scores("celebdf", "original", 1.0)}
    long = "ffpp-c23_mobilenetv4_conv_small_distilled-by-several_s0-3ec3b4"
    folders = [plant(tmp_path, long, elsewhere=elsewhere, validation=scores(seed=5, split="val")),
               plant(tmp_path, "inverted", inverted)]  # fmt: skip
    page = tmp_path / "audit.html"
    page.write_text(html([audit_run(folder) for folder in folders], "stored scores"))
    with Browser(tmp_path / "profile") as browser:
        for width, phone in ((1280, False), (390, True)):
            for scheme in ("light", "dark"):
                browser.look(width, 900, scheme, phone)
                browser.open(page)
                assert browser.run("document.documentElement.scrollWidth") <= width
                assert browser.run(CONTRAST) >= 4.5
                assert browser.run(NARROWEST) >= 0.3 * width
                shown = browser.run("document.body.innerText")
                for words in ("Do not trust these numbers: labels", "real against real", "EER"):
                    assert words in shown
        assert browser.run("document.querySelectorAll('svg').length") == 2
        failed = [event for event in browser.events if event["method"] == "Log.entryAdded"]
        assert failed == []
        asked = [e for e in browser.events if e["method"] == "Network.requestWillBeSent"]
        addresses = {e["params"]["request"]["url"].partition(":")[0] for e in asked}
        assert addresses <= {"file", "data"}
