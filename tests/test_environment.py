import platform
import sys

import torch

from tokd_lightning.cli import main


def test_version_with_verbose_names_versions_device_and_commit(capsys):
    assert main(["--version", "--verbose"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines()[1:])
    assert lines["torch"] == torch.__version__.partition("+")[0]
    assert lines["python"].startswith(platform.python_version())
    assert {"commit", "devices", "lightning", "timm", "av"} <= lines.keys()


def test_custom_classes_of_the_working_directory_can_be_imported(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    assert main(["--version", "--verbose"]) == 0
    assert str(tmp_path) in sys.path
