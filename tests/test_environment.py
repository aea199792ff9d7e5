import platform

import torch

from tokd_lightning.cli import main


def test_version_with_verbose_names_versions_device_and_commit(capsys):
    assert main(["--version", "--verbose"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    assert lines["torch"] == torch.__version__.partition("+")[0]
    assert lines["python"].startswith(platform.python_version())
    assert {"commit", "devices", "lightning", "timm", "av"} <= lines.keys()
