"""`tokd export --format web`: its files, and the page in Chromium."""

import json
import os
import re
import shutil
import stat
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, find_chromium
from kinds import pictures, videos
from page_code import PAGE
from PIL import Image
from test_cli import ROOT

from tokd_lightning.cli import main
from tokd_lightning.demo.cast import ProceduralCast
from tokd_lightning.deploy import web
from tokd_lightning.deploy.web import _script, page_names, runtime_files
from tokd_lightning.errors import TokdError

RUNTIME = Path(os.environ.get("TOKD_ONNXRUNTIME_WEB", ROOT))


def test_page_asks_for_its_own_files_alone_and_writes_no_markup():
    html = (PAGE / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'none'"
    assert rules["form-action"] == "'none'"
    assert rules["script-src"] == "'self' blob: 'wasm-unsafe-eval'"
    assert not re.search(r"(src|href)=\"(https?:)?//", html)
    assert set(re.findall(r'(?:script src|stylesheet" href)="([^"]+)"', html)) <= page_names()
    for file in PAGE.glob("*.js"):
        code = file.read_text()
        barred = (
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|fetch\(|XMLHttp|WebSocket"
        )
        assert not re.search(barred, code), file.name


def test_values_enter_scripts_as_text():
    hostile = {"__proto__": "x", "a": "</script><script>alert(1)</script>\u2028'\"\\", "b": [1]}
    script = _script({"record": hostile}).decode("ascii")
    assert "<" not in script
    quoted = re.search(r"JSON\.parse\((.*)\);", script)[1]
    assert json.loads(json.loads(quoted)) == hostile


def test_runtime_is_held_to_its_hashes(tmp_path, monkeypatch):
    with pytest.raises(TokdError, match=r"--runtime .*ort.wasm.min.js .* cannot be read"):
        runtime_files(tmp_path)
    for name in web.HASHES:
        (tmp_path / name).write_text("something else")
    with pytest.raises(TokdError, match=r"is not that of onnxruntime-web 1\.30\.0"):
        runtime_files(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TokdError, match=r"npm, which is not installed: or give --runtime DIR with"):
        runtime_files()
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is down' >&2\nexit 1\n")
    npm.chmod(npm.stat().st_mode | stat.S_IEXEC)
    with pytest.raises(TokdError, match=r"\(npm error network is down\): or give --runtime"):
        runtime_files()


def test_web_without_a_runtime_writes_nothing(tmp_path, capsys):
    given = ["export", str(tmp_path), "--format", "web", "--out", str(tmp_path / "out")]
    assert main([*given, "--runtime", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- in Chromium


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    find_chromium()
    try:
        runtime_files(RUNTIME)
    except TokdError as error:
        pytest.skip(f"{error}: npm install --no-save onnxruntime-web@{web.VERSION}")
    out = tmp_path_factory.mktemp("web") / "model"
    given = ["export", str(run), "--format", "web", "--detector", "haar", "--out", str(out)]
    assert main([*given, "--runtime", str(RUNTIME)]) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.look(1280, 900)
        yield opened


@pytest.fixture(scope="module")
def face():
    return np.asarray(ProceduralCast(0, 320).portrait(0).image)


@pytest.fixture(scope="module")
def scene(face):
    """A face off the middle of a larger picture."""
    rng = np.random.default_rng(0)
    picture = (rng.random((420, 560, 3)) * 30 + 90).astype(np.uint8)
    picture[60:380, 200:520] = face
    return picture


def ready(browser, exported, address=None):
    browser.events.clear()
    browser.open(address or exported / "web/index.html")
    browser.wait("document.body.dataset.ready || document.body.innerText.includes('Export it')")


def add(browser, *files):
    """Add files; return P(fake), verdict and notes of each by name."""
    browser.run("document.querySelectorAll('article').forEach((one) => one.remove())")
    browser.choose("#files", *files)
    browser.wait(f"document.querySelectorAll('article').length === {len(files)}", 300)
    said = browser.run(
        "[...document.querySelectorAll('article')].map((one) => ["
        "one.querySelector('h2').textContent, one.dataset.p ?? null,"
        "one.querySelector('.badge').textContent,"
        "one.querySelector('.notes').textContent])"
    )
    return {name: (p and float(p), verdict, notes) for name, p, verdict, notes in said}


def detected(capsys, model, files):
    capsys.readouterr()
    main(["detect", str(model), *map(str, files), "--json"])
    said = json.loads(capsys.readouterr().out)
    return {Path(one["path"]).name: one for one in said["files"]}


def compare(browser, capsys, exported, files):
    ready(browser, exported)
    found, expected = add(browser, *files), detected(capsys, exported, files)
    scored = 0
    for file in files:
        p_fake, verdict, notes = found[file.name]
        correct = expected[file.name]
        if correct["p_fake"] is None:
            assert p_fake is None, file.name
            assert "no face" in notes
            continue
        assert p_fake == pytest.approx(correct["p_fake"], abs=1e-5), (file.name, notes)
        assert verdict == f"Called {correct['verdict']}"
        scored += 1
    return scored


@pytest.mark.slow
def test_pictures_of_all_kinds_get_the_score_of_detect(
    browser, exported, face, scene, tmp_path, capsys
):
    files = pictures(tmp_path, face, scene)
    assert len(files) > 30
    assert compare(browser, capsys, exported, files) > 25


@pytest.mark.slow
def test_videos_get_the_score_of_detect_at_the_same_frames(
    browser, exported, scene, tmp_path, capsys
):
    frames = np.stack([np.roll(scene, (2 * n, -3 * n), (0, 1)) for n in range(40)])
    files = videos(tmp_path, frames)
    assert compare(browser, capsys, exported, files) == len(files)


@pytest.mark.slow
def test_what_the_page_does_otherwise_it_says(browser, exported, face, tmp_path):
    ready(browser, exported)
    Image.fromarray(face).save(tmp_path / "a.tiff")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    (tmp_path / "c.mp4").write_bytes(b"no video")
    made = videos(tmp_path, np.stack([face[:, :, ::-1]] * 8))[0]
    import subprocess

    import imageio_ffmpeg

    clip = tmp_path / "d.webm"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(made)]
    subprocess.run([*command, "-c:v", "libvpx-vp9", str(clip)], check=True)
    said = add(browser, *(tmp_path / name for name in ("a.tiff", "b.jpg", "c.mp4")), clip)
    assert said["a.tiff"] == (None, "Not scored", "this browser cannot decode it as a picture")
    assert said["b.jpg"][1:] == ("Not scored", "this browser cannot decode it as a picture")
    assert "neither a picture nor a video" in said["c.mp4"][2]
    assert "frames are not listed as in an MP4" in said["d.webm"][2]
    assert said["d.webm"][0] is not None


@pytest.mark.slow
def test_nothing_leaves_the_machine_from_file_or_host(browser, exported, face, tmp_path):
    asked = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = partial(Quiet, directory=str(exported / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_address[1]}"
    Image.fromarray(face).save(tmp_path / "face.png")
    scores = []
    for address in (None, f"{host}/index.html"):
        ready(browser, exported, address)
        scores.append(add(browser, tmp_path / "face.png")["face.png"][0])
        urls = [
            event["params"]["request"]["url"]
            for event in browser.events if event["method"] == "Network.requestWillBeSent"
        ]  # fmt: skip
        own = (exported / "web").as_uri() if address is None else host
        assert len(urls) >= 12
        assert all(url.startswith((own, "blob:", "data:")) for url in urls)
        served = len(asked)
        for attempt in (
            f"fetch('{host}/leak').then(() => 'sent', () => 'refused')",
            f"new Promise((end) => Object.assign(new Image(), {{src: '{host}/leak', "
            "onload: () => end('sent'), onerror: () => end('refused')}))",
        ):
            assert browser.run(attempt) == "refused"
        beacon = f"(() => {{ try {{ navigator.sendBeacon('{host}/leak', 'x') }} catch {{}} }})()"
        browser.run(beacon)  # its answer does not tell; the host's log does
        browser.run("new Promise((end) => setTimeout(end, 500))")
        assert len(asked) == served
    server.shutdown()
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_hostile_names_and_models_are_text(browser, exported, face, tmp_path):
    bad = "<img src=x onerror=document.title='owned'>"
    name = f"{bad.replace('/', '')}.png"
    Image.fromarray(face).save(tmp_path / name)
    copy = shutil.copytree(exported, tmp_path / "copy")
    record = json.loads((copy / "model.json").read_text())
    record["name"] = record["trained"]["data"] = record["validation"] = bad
    record["warnings"] = [bad]
    script = (copy / "web/model.js").read_text()
    forged = _script({"record": record}).decode().splitlines()[-1]
    lines = [forged if ".record =" in line else line for line in script.splitlines()]
    (copy / "web/model.js").write_text("\n".join(lines))
    ready(browser, copy)
    said = add(browser, tmp_path / name)
    assert name in said
    assert browser.run("document.querySelector('#model').textContent") == bad
    assert browser.run("document.title") == "Face forgery detector"
    assert browser.run("document.querySelectorAll('img').length") == 0

    for key, value in (("size", "1e9"), ("mean", [0, "x", 0]), ("crop", -4), ("std", [0, 0, 0])):
        record["input"] = json.loads((exported / "model.json").read_text())["input"] | {key: value}
        forged = _script({"record": record}).decode().splitlines()[-1]
        lines = [forged if ".record =" in line else line for line in script.splitlines()]
        (copy / "web/model.js").write_text("\n".join(lines))
        ready(browser, copy)
        assert "The network cannot be opened" in browser.run("document.body.innerText")
        assert browser.run("document.querySelector('#files').disabled")


@pytest.mark.slow
def test_keyboard_alone_sets_a_box_and_scores_it(browser, exported, scene, tmp_path):
    Image.fromarray(scene).save(tmp_path / "scene.png")
    ready(browser, exported)
    before = add(browser, tmp_path / "scene.png")["scene.png"][0]
    for _ in range(12):
        if browser.run("document.activeElement.className") == "box":
            break
        browser.key("Tab")
    assert browser.run("document.activeElement.textContent") == "Set the box by hand"
    browser.key("Enter")
    assert browser.run("document.activeElement.tagName") == "CANVAS"
    for _ in range(6):
        browser.key("ArrowDown", modifiers=8)
    browser.key("Enter")
    browser.wait("document.querySelector('.notes').textContent.includes('set by hand')")
    after = float(browser.run("document.querySelector('article').dataset.p"))
    assert after != before
    assert "P(fake)" in browser.run("document.querySelector('[role=status]').textContent")


@pytest.mark.slow
def test_camera_gives_a_result(browser, exported):
    ready(browser, exported)
    browser.run("document.querySelector('#camera').click()")
    browser.wait("!document.querySelector('#live').hidden")
    browser.run("document.querySelector('#shoot').click()")
    browser.wait("document.querySelectorAll('article').length === 1")
    assert "Camera" in browser.run("document.querySelector('article h2').textContent")
    browser.run("document.querySelector('#stop').click()")
    assert browser.run("document.querySelector('#preview').srcObject === null")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone_and_every_control_has_a_name(browser, exported, scene, scheme, tmp_path):
    Image.fromarray(scene).save(tmp_path / f"{'long' * 30}.png")
    ready(browser, exported)
    browser.look(390, 844, scheme, phone=True)
    try:
        add(browser, tmp_path / f"{'long' * 30}.png")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        small = browser.run(
            "[...document.querySelectorAll('button, .button')].filter((one) => one.offsetParent &&"
            "one.getBoundingClientRect().height < 44).map((one) => one.textContent)"
        )
        assert small == []
        nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
        named = {"button", "slider", "image", "progressbar", "link"}
        nameless = [
            node for node in nodes
            if node.get("role", {}).get("value") in named and not node["ignored"]
            and not node.get("name", {}).get("value")
        ]  # fmt: skip
        assert nameless == []
    finally:
        browser.look(1280, 900)


@pytest.mark.slow
def test_page_with_int8_student_is_below_8_mb(exported, tmp_path):
    import torch

    from tokd_lightning.deploy.int8 import quantise
    from tokd_lightning.deploy.networks import Deployed, to_onnx
    from tokd_lightning.models import Student

    content = to_onnx(Deployed(Student("resnet18_thin")), 96, {})
    made = quantise(content, torch.randn(2, 3, 96, 96).numpy())
    record = json.loads((exported / "model.json").read_text())
    files = web.page_files(record, made, "int8", runtime_files(RUNTIME))
    assert set(files) == page_names()
    assert web.compressed(files) < 8e6
    said = record["web"]
    assert said["bytes"] == sum(file.stat().st_size for file in (exported / "web").iterdir())
