import pytest

from tokd_lightning.data.target import parse_target
from tokd_lightning.errors import TokdError


def test_a_data_set_is_named_by_kind_quality_and_path(tmp_path):
    assert parse_target(f"celebdf:{tmp_path}")[:3] == ("celebdf", "celebdf", "original")
    assert parse_target(f"ffpp:{tmp_path}").label == "ffpp-c40"
    assert parse_target(f"v2=celebdf-c40:{tmp_path}").label == "v2-c40"
    colon = tmp_path / "a:b=c-d"
    colon.mkdir()
    assert parse_target(f"own:{colon}").path == colon
    (colon / "SYNTHETIC.txt").touch()
    assert parse_target(f"ffpp-c23:{colon}").label == "synthetic-c23"


def test_a_list_of_deepfakebench_keeps_its_test_to_the_test(tmp_path):
    file = tmp_path / "Celeb-DF-v2.json"
    file.write_text("{}")
    target = parse_target(f"own:{file}")
    assert target.module("test").val_fraction == 0.1
    assert target.module("val").val_fraction is None
    assert target.module("test").root == tmp_path


@pytest.mark.parametrize(
    "text", ["", "celebdf", "celebdf:", "=ffpp:.", "ffpp-:.", "photos:.", "ffpp:nowhere"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(TokdError, match="--on"):
        parse_target(text)
