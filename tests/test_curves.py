"""metrics.csv: whole at every moment, and the same however often it was cut and written anew."""

import csv

import pytest

from tokd_lightning.loggers import curves
from tokd_lightning.loggers.curves import Curves, cut, read


def filled(path, rows):
    file = Curves(path)
    for row in rows:
        file.log_metrics(row, row["epoch"])
    file.save()
    return file


ROWS = [{"epoch": n, "train/loss": n / 2} for n in range(3)]


def test_what_is_saved_in_pieces_is_what_is_saved_at_once(tmp_path):
    more = [{"epoch": 3, "val/acc": 0.5}, {"epoch": 4, "train/loss": 0.25}]
    filled(tmp_path / "one.csv", [*ROWS, *more])
    for row in [*ROWS, *more]:
        filled(tmp_path / "many.csv", [row])
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many.csv", "one.csv"]


def test_rows_that_are_cut_off_and_written_again_leave_no_trace(tmp_path):
    path = tmp_path / "metrics.csv"
    before = filled(path, ROWS) and path.read_bytes()
    cut(path, 1)
    assert len(read(path)[1]) == 1
    assert filled(path, ROWS[1:]).rows == 3
    assert path.read_bytes() == before
    cut(path, 7)
    assert path.read_bytes() == before
    cut(path, 0)
    assert not path.exists()


@pytest.mark.parametrize("row", [{"epoch": 9, "train/loss": 1.0}, {"epoch": 9, "new": 1.0}])
def test_a_kill_while_rows_are_written_leaves_the_earlier_ones(tmp_path, monkeypatch, row):
    path = tmp_path / "metrics.csv"
    before = filled(path, ROWS) and path.read_bytes()

    class Killed(csv.DictWriter):
        def writerows(self, rows):
            raise KeyboardInterrupt

    monkeypatch.setattr(curves.csv, "DictWriter", Killed)
    with pytest.raises(KeyboardInterrupt):
        filled(path, [row])
    with pytest.raises(KeyboardInterrupt):
        cut(path, 1)
    assert path.read_bytes() == before
    monkeypatch.undo()
    filled(path, [row])
    assert len(read(path)[1]) == 4


def test_rows_not_saved_yet_are_counted(tmp_path):
    file = filled(tmp_path / "metrics.csv", ROWS)
    file.log_metrics({"epoch": 3})
    assert (file.rows, len(read(file.path)[1])) == (4, 3)
    assert Curves(file.path).rows == 3
