import re
import shlex
from pathlib import Path

import pytest

from tokd_lightning.cli import LIGHTNING, _parser
from tokd_lightning.data.verify.kinds import KINDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("tokd ")
]


def test_every_finding_of_verify_is_explained_with_its_severity():
    found = re.findall(r"^\| (\w+) `([\w-]+)` \|", README, re.MULTILINE)
    assert {code: severity for severity, code in found} == {
        code: kind.severity for code, kind in KINDS.items()
    }


def test_there_are_commands_to_try():
    assert {command[0] for command in COMMANDS} >= {"fit", "test", "prepare", "verify", "show"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_is_one(command):
    if command[0] in LIGHTNING:
        experiment = command[command.index("--config") + 1]
        assert (ROOT / experiment).is_file()
    else:
        assert _parser().parse_args(command).run


def test_every_link_to_a_file_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
