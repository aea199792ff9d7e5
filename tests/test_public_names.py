"""The names that people import are documented by examples that hold."""

import doctest
import re
import subprocess
import sys
from operator import attrgetter

import pytest

import tokd_lightning


def test_the_examples_hold():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(tokd_lightning, optionflags=flags)
    assert found.attempted > 25
    assert found.failed == 0


def test_every_name_has_an_example_of_at_most_five_lines():
    text = tokd_lightning.__doc__
    for name in tokd_lightning._NAMES:
        assert re.search(rf"^>>> .*\b{name}\b", text, re.MULTILINE), name
    examples = re.split(r"\n\n", text)
    assert all(len(re.findall(r"^(?:>>>|\.\.\.) ", part, re.MULTILINE)) <= 5 for part in examples)
    assert {*tokd_lightning._NAMES, "__version__"} == set(tokd_lightning.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        attrgetter("nothing")(tokd_lightning)
    assert set(tokd_lightning._NAMES) <= set(dir(tokd_lightning))


def test_an_earlier_name_of_a_loader_is_still_imported():
    from tokd_lightning import load_exported
    from tokd_lightning.deploy.record import open_model

    assert load_exported is open_model


def test_importing_the_package_imports_no_library():
    code = (
        "import sys, tokd_lightning; assert not {'torch', 'lightning', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
