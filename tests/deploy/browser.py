"""Chromium without a window, driven through a pipe by its own protocol."""

import json
import os
import shutil
import subprocess
import time
from base64 import b64decode
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium():
    """Return the program, or skip the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(NAMES)} on the PATH")
    return found


class Browser:
    """A browser with one page.

    Args:
        folder: Its profile.
        size: Width and height of the window.
        options: Further options of the program.
    """

    def __init__(self, folder, size=(1280, 900), *options):
        down, self.into = os.pipe()
        self.out, up = os.pipe()
        command = [
            find_chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio",
            "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--remote-debugging-pipe", f"--user-data-dir={folder}", "--no-first-run",
            "--disable-background-networking", "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream", f"--window-size={size[0]},{size[1]}", *options,
            "about:blank",
        ]  # fmt: skip
        script = f'exec "$@" 3<&{down} 4>&{up}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *command], pass_fds=(down, up),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(down)
        os.close(up)
        self.rest, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.into)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
        os.close(self.out)

    def call(self, method, **given):
        """Call a method of the protocol and return its result; events are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": given}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        while b"\0" not in self.rest:
            more = os.read(self.out, 1 << 20)
            if not more:
                raise RuntimeError("Chromium has ended")
            self.rest += more
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def open(self, address):
        """Open a file or an address and wait until it is loaded."""
        self.call(
            "Page.navigate", url=Path(address).as_uri() if isinstance(address, Path) else address
        )
        self.wait("document.readyState === 'complete'")

    def run(self, code):
        """Evaluate JavaScript, await its result and return it."""
        answer = self.call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        if "exceptionDetails" in answer:
            said = answer["exceptionDetails"]
            raise RuntimeError(said.get("exception", {}).get("description", said["text"]))
        return answer["result"].get("value")

    def wait(self, condition, seconds=120):
        """Wait until an expression is true."""
        until = time.monotonic() + seconds
        while not self.run(condition):
            assert time.monotonic() < until, condition
            time.sleep(0.05)

    def choose(self, selector, *files):
        """Choose files in an input."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def key(self, name, modifiers=0):
        """Press a key."""
        text = {"Enter": "\r", "Space": " "}.get(name, "")
        key = " " if name == "Space" else name
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=name, modifiers=modifiers,
                      windowsVirtualKeyCode={"Tab": 9, "Enter": 13, "Space": 32, "ArrowRight": 39,
                                             "ArrowDown": 40, "Escape": 27}.get(name, 0),
                      **({"text": text} if text and kind == "keyDown" else {}))  # fmt: skip

    def picture(self, file, whole=True):
        """Write a screenshot."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(file).write_bytes(b64decode(shot["data"]))

    def look(self, width, height, scheme="light", phone=False):
        """Set the size of the window and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=2 if phone else 1, mobile=phone)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
