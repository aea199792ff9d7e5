"""``tokd export --format web``: a folder with a page that runs the student in a browser.

It works from a USB stick (file://) and from any static host: only classic scripts, the runtime,
the network and the cascade as text in scripts, no module, worker or request.
"""

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokd_lightning.errors import TokdError
from tokd_lightning.prepare.haar import CASCADE, Cascade, read_cascade

FOLDER = "web"
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
_LIBRARY, _GLUE, _WASM = (
    "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
)  # fmt: skip
HASHES = {
    _LIBRARY: "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    _GLUE: "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    _WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of the three files of the runtime."""
_PAGE = Path(__file__).parent / "page"
_SECONDS = 300
_NOTICE = f"""\
{PACKAGE} {VERSION} (ort.wasm.min.js, runtime.js)
MIT License, Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

--------
Haar cascade {CASCADE} (cascade.js)
"""


def page_files(
    record: Mapping[str, Any], network: bytes, kind: str, runtime: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the files of the page by name.

    Args:
        record: Content of ``model.json``, and its ``warnings``.
        network: The ONNX file.
        kind: What kind of network it is, as the page says it.
        runtime: The three files of the runtime, from :func:`runtime_files`.
    """
    read = read_cascade()
    parts: dict[str, dict[str, Any]] = {
        "cascade.js": {"cascade": page_cascade(read)},
        "model.js": {"record": dict(record), "kind": kind, "model": _text(network)},
        "runtime.js": {"wasm": _text(runtime[_WASM]), "glue": _text(runtime[_GLUE])},
    }
    files = {file.name: file.read_bytes() for file in sorted(_PAGE.iterdir())}
    files |= {_LIBRARY: runtime[_LIBRARY], "NOTICE.txt": (_NOTICE + read.licence).encode()}
    return files | {name: _script(values) for name, values in parts.items()}


def page_cascade(read: Cascade) -> dict[str, Any]:
    """Return the cascade as ``haar.js`` takes it."""
    trees = [
        {"nodes": [[*map(int, node[:3]), node[3]] for node in nodes], "leaves": leaves}
        for nodes, leaves in read.trees
    ]
    return {"stages": read.stages, "trees": trees, "features": read.features}


def page_names() -> set[str]:
    """Return the names of all files of a page."""
    made = {_LIBRARY, "NOTICE.txt", "cascade.js", "model.js", "runtime.js"}
    return made | {file.name for file in _PAGE.iterdir()}


def compressed(files: Mapping[str, bytes]) -> int:
    """Return the size of files as a web server sends them, each compressed by gzip."""
    return sum(len(gzip.compress(content, 6)) for content in files.values())


def _text(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode("ascii")


def _script(values: Mapping[str, Any]) -> bytes:
    """Return a script that adds values to ``tokd.parts``; they enter as JSON, which cannot act."""
    lines = ['"use strict";', "tokd.parts ??= {};"]
    for name, value in values.items():
        # A string of JSON within a string of JSON: even a key "__proto__" is only a key.
        quoted = json.dumps(json.dumps(value)).replace("<", "\\u003c")
        lines.append(f"tokd.parts.{name} = JSON.parse({quoted});")
    return ("\n".join(lines) + "\n").encode("ascii")


def runtime_files(folder: Path | None = None) -> dict[str, bytes]:
    """Return the three files of ONNX Runtime Web, held to their hashes.

    Args:
        folder: Where they are, or a folder above ``dist``; None fetches the package by npm.

    Raises:
        TokdError: npm is missing or fails, a file is missing, or one is of another version.
    """
    if folder is not None:
        places = (folder, folder / "dist", folder / "node_modules" / PACKAGE / "dist")
        place = next((each for each in places if (each / _WASM).is_file()), folder)
        return _checked(place, f"--runtime {folder}")
    npm = shutil.which("npm")
    other = f"or give --runtime DIR with {', '.join(HASHES)}"
    if npm is None:
        raise TokdError(f"--format web fetches {PACKAGE} by npm, which is not installed: {other}")
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            done = subprocess.run(
                command, cwd=scratch, capture_output=True, timeout=_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TokdError(f"npm cannot fetch {PACKAGE} ({error}): {other}") from error
        packed = next(Path(scratch).glob("*.tgz"), None)
        if done.returncode or packed is None:
            lines = done.stderr.decode(errors="replace").splitlines()
            said = next((line for line in lines if line.strip()), "it gives no reason")
            raise TokdError(f"npm cannot fetch {PACKAGE} {VERSION} ({said[:160]}): {other}")
        try:
            with tarfile.open(packed) as archive:
                for name in HASHES:
                    content = archive.extractfile(f"package/dist/{name}")
                    (Path(scratch) / name).write_bytes(content.read() if content else b"")
        except (tarfile.TarError, KeyError, OSError) as error:
            raise TokdError(f"npm's {PACKAGE} {VERSION} cannot be read: {other}") from error
        return _checked(Path(scratch), "npm")


def _checked(folder: Path, source: str) -> dict[str, bytes]:
    files = {}
    for name, expected in HASHES.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise TokdError(
                f"{source}: {name} of {PACKAGE} {VERSION} cannot be read: {error.strerror}"
            ) from error
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise TokdError(f"{source}: {name} is not that of {PACKAGE} {VERSION}")
    return files
