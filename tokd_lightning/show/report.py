"""Title of a sheet, and a table of its contents for the terminal."""

from collections import Counter
from pathlib import Path

import pandas as pd
from rich.markup import escape
from rich.table import Table

from tokd_lightning.data.layouts.listed import UNKNOWN
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.qualities import best_first
from tokd_lightning.data.synthetic import is_synthetic
from tokd_lightning.show.choose import in_order
from tokd_lightning.show.run import errors_by_method
from tokd_lightning.show.sheet import Band, Drawn, paths_of

_NAMES = {"ffpp": "FF++", "celebdf": "Celeb-DF", "dfd": "DeepFakeDetection"}


def title_of(manifest: pd.DataFrame, path: Path, root: Path) -> str:
    """Return a title: the data sets of a manifest, their qualities, and the path's name."""
    names = ", ".join(_NAMES.get(str(n), str(n)) for n in manifest["dataset"].unique())
    qualities = ", ".join(sorted(manifest["quality"].unique(), key=best_first))
    known = f" ({qualities})" if qualities != UNKNOWN else ""
    return f"{'SYNTHETIC ' if is_synthetic(root) else ''}{names}{known}: {path.resolve().name}"


def contents_table(manifest: pd.DataFrame, bands: list[Band], drawn: Drawn) -> Table:
    """Count the videos, and the frames on the sheet, per data set and method.

    Args:
        manifest: All rows that could be shown.
        bands: The rows chosen for the sheet.
        drawn: The finished sheet.
    """
    table = Table(title="On the sheet", title_justify="left")
    for name in ("data set", "method"):
        table.add_column(name)
    for name in ("videos", "frames shown", "unreadable"):
        table.add_column(name, justify="right")
    times = Counter(paths_of(bands))
    for dataset, rows in manifest.groupby("dataset", sort=False):
        for method in in_order(rows["method"].unique()):
            mine = rows[rows["method"] == method]
            paths = [path for path in mine["path"] if path in times]
            broken = sum(path in drawn.unreadable for path in paths)
            videos = mine[VIDEO].drop_duplicates()
            counts = (len(videos), sum(times[path] for path in paths) - broken, broken)
            table.add_row(escape(str(dataset)), escape(method), *map(str, counts))
    return table


def errors_table(scores: pd.DataFrame, bands: list[Band]) -> Table:
    """Count the frames, the errors at 0.5 and the frames on the sheet, per method.

    Args:
        scores: One row per frame.
        bands: The rows chosen for the sheet.
    """
    table = Table(title="Errors at P(fake) 0.5", title_justify="left")
    table.add_column("method")
    for name in ("frames", "errors", "share", "shown"):
        table.add_column(name, justify="right")
    times = Counter(paths_of(bands))
    for method, (frames, errors) in errors_by_method(scores).items():
        on_sheet = sum(times[path] for path in scores["path"][scores["method"] == method])
        share = f"{errors / frames:.1%}"
        table.add_row(escape(method), str(frames), str(errors), share, str(on_sheet))
    return table
