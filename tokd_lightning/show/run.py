"""Most confident errors of a run, read from the files that ``tokd test`` wrote."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from torch import Tensor

from tokd_lightning.data.augment import centre_crop
from tokd_lightning.data.decode import resize
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.synthetic import is_synthetic
from tokd_lightning.errors import TokdError
from tokd_lightning.show.choose import in_order
from tokd_lightning.show.sheet import Band, Row, Sheet, Tile

_ACROSS = 4
_SCORES = ("path", *VIDEO, "frame", "label", "split", "p_fake")


class RunData(NamedTuple):
    """The data of a run: where its frames are, and which part of each the network saw.

    Attributes:
        root: Folder that the paths of the scores are relative to.
        size: Side of a decoded image in pixels.
        crop: Side of the centre crop that the network saw; None for the whole image.
    """

    root: Path
    size: int
    crop: int | None

    def as_seen(self, image: Tensor) -> Tensor:
        """Resize and crop an image ``(3, H, W)``, uint8, as the network saw it."""
        image = resize(image, self.size)
        return image if self.crop is None else centre_crop(image, self.crop)


def is_run(path: Path) -> bool:
    """Return whether a path is a run folder and not a data set."""
    return (path / "fit.yaml").is_file()


def read_run(folder: Path, root: Path | None = None) -> RunData:
    """Read from its configuration which data a run was tested on.

    Args:
        folder: The run's folder; ``test.yaml`` takes precedence over ``fit.yaml``.
        root: Where the data are now, if they have moved.

    Raises:
        TokdError: The configuration cannot be read, or the data are not where it says.
    """
    stages = (folder / f"{stage}.yaml" for stage in ("test", "fit"))
    file = next(path for path in stages if path.is_file())
    try:
        options: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["data"][
            "init_args"
        ]
        place = root if root is not None else Path(options["root"])
        crop = options.get("crop")
        data = RunData(place, int(options["size"]), None if crop is None else int(crop))
    except (OSError, ValueError, TypeError, LookupError, yaml.YAMLError) as error:
        raise TokdError(f"{file} is not the configuration of a run") from error
    if not data.root.is_dir():
        moved = "" if root is not None else ", where the run found its data: name it with --root"
        raise TokdError(f"no folder {data.root}{moved}")
    return data


def read_scores(folder: Path) -> pd.DataFrame:
    """Read the scores of a run's test frames.

    Args:
        folder: The run's folder.

    Returns:
        The manifest columns of ``test_frames.csv``, and ``p_fake``.

    Raises:
        TokdError: The run was not tested, or the file is not valid.
    """
    file = folder / "test_frames.csv"
    if not file.is_file():
        raise TokdError(f"{folder} has no test_frames.csv: run tokd test {folder}")
    wrong = f"{file} is not what tokd test writes"
    try:
        scores = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise TokdError(f"{wrong}: {error}") from error
    if missing := [name for name in _SCORES if name not in scores]:
        raise TokdError(f"{wrong}: it lacks the columns {', '.join(missing)}")
    for name in ("frame", "label", "p_fake"):
        scores[name] = pd.to_numeric(scores[name], errors="coerce")
        if scores[name].isna().any():
            raise TokdError(f"{wrong}: {name} is not a number in {scores[name].isna().sum()} rows")
    return scores.astype({"frame": "int64", "label": "int64"})


def confident_errors(scores: pd.DataFrame, label: int, count: int) -> pd.DataFrame:
    """Choose the wrongly classified frames with the most confident scores.

    First the worst frame of every video, the most confident error first; then, if there is room,
    the second worst of every video, and so on. Ties are sorted by name.

    Args:
        scores: One row per frame.
        label: 0 chooses real frames with the highest P(fake), 1 fake frames with the lowest.
        count: Largest number of frames.
    """
    errors = scores[is_wrong(scores) & (scores["label"] == label)].copy()
    errors["doubt"] = errors["p_fake"] if label else 1 - errors["p_fake"]
    errors = errors.sort_values(["doubt", *VIDEO, "frame"], kind="stable")
    errors["turn"] = errors.groupby(VIDEO, sort=False).cumcount()
    return errors.sort_values(["turn"], kind="stable").head(count)


def is_wrong(scores: pd.DataFrame) -> "pd.Series[bool]":
    """Return which frames are misclassified at threshold 0.5; exactly 0.5 counts as real."""
    return (scores["p_fake"] > 0.5) != (scores["label"] == 1)


def errors_by_method(scores: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Return the numbers of frames and of errors at 0.5 of each method, ``real`` first."""
    wrong = is_wrong(scores)
    of = {method: scores["method"] == method for method in in_order(scores["method"].unique())}
    return {method: (int(mine.sum()), int(wrong[mine].sum())) for method, mine in of.items()}


def bands_of_errors(scores: pd.DataFrame, rows: int) -> list[Band]:
    """Lay out the most confident errors of both kinds, four in a row.

    Args:
        scores: One row per frame.
        rows: Largest number of rows of each kind.
    """
    bands = []
    for label, heading, none in (
        (0, "Real frames taken for fake: highest P(fake)", "No real frame was taken for fake"),
        (1, "Fake frames taken for real: lowest P(fake)", "No fake frame was taken for real"),
    ):
        tiles = [_tile(row) for row in confident_errors(scores, label, rows * _ACROSS).itertuples()]
        lines = [tiles[i : i + _ACROSS] for i in range(0, len(tiles), _ACROSS)]
        bands.append(
            Band(
                f"{heading} first, each video once before any twice" if tiles else none,
                (),
                tuple(Row((), tuple(line)) for line in lines),
            )
        )
    return bands


def _tile(row: Any) -> Tile:
    return Tile(
        row.path, (f"{row.method}  {row.video}", f"frame {row.frame}   P(fake) {row.p_fake:.4f}")
    )


def sheet_of_run(folder: Path, root: Path | None, scores: pd.DataFrame, rows: int) -> Sheet:
    """Lay out the most confident errors of a run.

    Args:
        folder: The run's folder.
        root: Where its data are now, if they have moved.
        scores: Its scores, or a selection of them.
        rows: Largest number of rows of each kind of error.

    Raises:
        TokdError: No frame was misclassified, or the data are not where the run found them.
    """
    if not is_wrong(scores).any():
        raise TokdError(f"all {len(scores)} frames were judged rightly: no errors to show")
    data = read_run(folder, root)
    found = zip(scores["dataset"], scores["quality"], strict=True)
    where = ", ".join(
        sorted({f"{'SYNTHETIC ' if is_synthetic(data.root) else ''}{d}-{q}" for d, q in found})
    )
    seen = f"the middle {data.crop} of " if data.crop is not None else ""
    by = errors_by_method(scores).items()
    each = (f"{m} {wrong} of {frames} ({wrong / frames:.1%})" for m, (frames, wrong) in by)
    notes = [
        f"Tested on {where}; frames as the network saw them, {seen}{data.size} pixels.",
        "Errors at P(fake) 0.5: " + "  ·  ".join(each),
    ]
    title = f"Most confident errors of {folder.resolve().name}"
    hint = "if the data have moved, say where to with --root"
    return Sheet(title, notes, bands_of_errors(scores, rows), data.root, data.as_seen, hint)
