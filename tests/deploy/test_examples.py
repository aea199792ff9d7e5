"""The examples next to an exported network, run as a stranger would."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import ROOT

from tokd_lightning.cli import main
from tokd_lightning.deploy.record import EXAMPLES

RUNTIME = Path(os.environ.get("TOKD_ONNXRUNTIME_WEB", ROOT))


def test_examples_are_short():
    folder = ROOT / "tokd_lightning/deploy/examples"
    for name in EXAMPLES[:2]:
        assert len((folder / name).read_text().splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("formats", ["onnx", "onnx-int8"])
@pytest.mark.parametrize("detector", ["haar", "none"])
def test_example_in_python_gives_the_known_logits(run, tmp_path, formats, detector):
    out = tmp_path / "model"
    given = ["export", str(run), "--format", formats, "--detector", detector, "--out", str(out)]
    assert main(given) == 0
    done = subprocess.run(
        [sys.executable, str(out / "example.py")], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    np.testing.assert_allclose(said["logits"], said["known"], atol=2e-5)
    record = json.loads((out / "model.json").read_text())
    key = "logits" if formats == "onnx" else "logits_int8"
    assert said["known"] == record["reference"][key]


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["haar", "none"])
def test_example_in_javascript_gives_the_known_tensor_and_logits(run, tmp_path, detector):
    package = RUNTIME / "node_modules/onnxruntime-web"
    if shutil.which("node") is None or not package.is_dir():
        pytest.skip("needs Node.js and npm install --no-save onnxruntime-web@1.30.0")
    out = tmp_path / "model"
    assert main(["export", str(run), "--detector", detector, "--out", str(out)]) == 0
    (tmp_path / "node_modules").symlink_to(package.parent)
    picture = np.asarray(Image.open(out / "reference.png"))
    (tmp_path / "pixels").write_bytes(picture.tobytes())
    record = json.loads((out / "model.json").read_text())
    height, width, _ = picture.shape
    check = (
        "import { readFile, writeFile } from 'node:fs/promises';"
        "import { tensor } from './model/example.mjs';"
        "const data = new Uint8Array(await readFile('pixels'));"
        f"const image = {{ width: {width}, height: {height}, channels: 3, data }};"
        f"const made = tensor(image, {record['reference']['box']});"
        "await writeFile('made', new Uint8Array(made.buffer));"
    )
    (tmp_path / "check.mjs").write_text(check)
    done = subprocess.run(
        ["node", "check.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    np.testing.assert_allclose(said["logits"], said["known"], atol=2e-5)
    made = np.frombuffer((tmp_path / "made").read_bytes(), np.float32)
    known = np.load(out / "reference.npy")
    np.testing.assert_array_equal(made.reshape(known.shape), known)
