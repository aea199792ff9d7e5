"""Functions of the page, run by Node.js on arrays."""

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pytest

import tokd_lightning.deploy

PAGE = Path(tokd_lightning.deploy.__file__).parent / "page"
_RUN = """
const fs = require("fs"), vm = require("vm");
const given = JSON.parse(fs.readFileSync(0, "utf8"));
for (const name of given.scripts)
  vm.runInThisContext(fs.readFileSync(`${given.page}/${name}.js`, "utf8"), name);
const image = (value) => value && value.pixels !== undefined
  ? { ...value, data: new Uint8Array(Buffer.from(value.pixels, "base64")) } : value;
const plain = (value) => value && value.data instanceof Uint8Array
  ? { ...value, data: null, pixels: Buffer.from(value.data).toString("base64") } : value;
const cascade = given.cascade && new tokd.Cascade(given.cascade);
(async () => {
  const made = [];
  for (const [name, ...rest] of given.calls) {
    if (name === "detect") made.push(cascade.detect(image(rest[0]), ...rest.slice(1)));
    else if (name === "follow") {
      const shots = rest[0].map((picture, frame) => {
        const [small, scale] = tokd.smaller(image(picture), tokd.KEPT);
        return { frame, picture: small, scale };
      });
      const { width, height } = rest[0][0];
      const detector = new tokd.Detector(cascade);
      const track = await tokd.follow(shots, width, height, detector, async () => {});
      made.push(track && { ...track, frames: [...track.frames] });
    } else made.push(plain(tokd[name](...rest.map(image))));
  }
  process.stdout.write(JSON.stringify(made));
})();
"""


def as_image(array):
    """Turn ``(H, W)`` or ``(H, W, C)`` into an image of the page."""
    height, width, *channels = array.shape
    pixels = b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"width": width, "height": height, "channels": (channels or [1])[0], "pixels": pixels}


def as_array(image):
    """Turn an image of the page into ``(H, W)`` or ``(H, W, C)``."""
    shape = (image["height"], image["width"], image["channels"])
    array = np.frombuffer(b64decode(image["pixels"]), np.uint8).reshape(shape)
    return array[..., 0] if shape[2] == 1 else array


def call(calls, cascade=None, scripts=("resize", "haar", "faces")):
    """Call functions of the page: each call is a name and its arguments; arrays are images."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js (node) on the PATH")
    given = {
        "page": str(PAGE), "scripts": scripts, "cascade": cascade,
        "calls": [
            [as_image(value) if isinstance(value, np.ndarray) else value for value in one]
            for one in calls
        ],
    }  # fmt: skip
    done = subprocess.run(
        ["node", "-e", _RUN], input=json.dumps(given), capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)
