"""``tokd show``: sheets of a data set's frames, and of a run's most confident errors."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tokd_lightning.data.reader import read_any, root_of
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes
from tokd_lightning.show.choose import bands_of, keep
from tokd_lightning.show.find import find_frames
from tokd_lightning.show.forged import draw_forged
from tokd_lightning.show.report import contents_table, errors_table, title_of
from tokd_lightning.show.run import is_run, read_scores, sheet_of_run
from tokd_lightning.show.sheet import Sheet, draw
from tokd_lightning.terminal import keep_words

__all__ = ["show"]

_REASONS = 3


def show(
    path: Path,
    out: Path,
    *,
    root: Path | None = None,
    quality: str | None = None,
    method: Sequence[str] | None = None,
    split: str | None = None,
    identities: int = 4,
    tile: int = 160,
    cutoff: float = 0.33,
    seed: int | None = None,
    forge: str | None = None,
    landmarks: Path | None = None,
) -> int:
    """Draw frames of a data set, or the most confident errors of a run, as a PNG.

    Each frame is drawn as x next to its high frequencies x^F (Eq. 1). For a data set, each video
    is shown by its middle frame: real videos next to the fakes made from them where that is known,
    otherwise samples of each method. For a run, real frames with the highest P(fake) and fake
    frames with the lowest are shown, as the network saw them.

    Args:
        path: A tree of frames (FF++, Celeb-DF, flat), a manifest ``.csv``, a DeepfakeBench
            ``.json``, or the folder of a tested run.
        out: The PNG to write.
        root: Where the frames of a manifest or of a run are, if not where it says.
        quality: One compression; None shows all.
        method: Manipulations to show in addition to the real frames; None shows all.
        split: ``train``, ``val`` or ``test``; None shows all.
        identities: Largest number of real videos, of samples per method, or of rows of errors.
        tile: Longer side of a picture in pixels.
        cutoff: The cutoff of x^F in [0, 2], see :func:`~tokd_lightning.frequency.high_pass`.
        seed: Seed for drawing the videos at random; None spreads them evenly. Errors are never
            drawn at random.
        forge: ``sbi`` or ``bi``: draw real frames with the samples that training with
            ``--data.forge`` makes of them, their masks and face X-rays instead.
        landmarks: File of the landmarks that forging needs; None means ``landmarks.csv``.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: An option is invalid, there is nothing to show, or ``out`` cannot be written.
    """
    for name, value in (("identities", identities), ("tile", tile)):
        if value < 1:
            raise TokdError(f"{name} must be at least 1, not {value}")
    if not 0 <= cutoff <= 2:
        raise TokdError(f"cutoff must be between 0 and 2, not {cutoff:g}")
    if seed is not None and seed < 0:
        raise TokdError(f"seed must not be negative, not {seed}")
    if out.is_dir():
        raise TokdError(f"{out} is a folder: name the PNG file to write")
    if out.suffix.lower() != ".png":
        raise TokdError(f"{out} does not end in .png, which is what is written")
    if not path.exists():
        raise TokdError(f"no such file or folder: {path}")
    if forge is not None:
        return _show_forged(
            path, out, root, quality, split, forge, landmarks, identities, tile, seed
        )
    if landmarks is not None:
        raise TokdError("landmarks are only drawn with a forging method: give --forge sbi")
    if is_run(path):
        scores = keep(read_scores(path), quality, method, split)
        sheet = sheet_of_run(path, root, scores, identities)
        drawn = draw(sheet, tile, cutoff)
        table = errors_table(scores, sheet.bands)
    else:
        manifest = keep(find_frames(path, quality, root), quality, method, split)
        place = root_of(path, root)
        bands = bands_of(manifest, identities, seed)
        sheet = Sheet(title_of(manifest, path, place), [], bands, place)
        drawn = draw(sheet, tile, cutoff)
        table = contents_table(manifest, bands, drawn)
    write_bytes(out, drawn.png)
    console = Console()
    console.print(keep_words(table, console))
    for frame, reason in list(drawn.unreadable.items())[:_REASONS]:
        print(f"{frame} cannot be read: {reason}")
    if len(drawn.unreadable) > _REASONS:
        print(f"… and {len(drawn.unreadable) - _REASONS} more cannot be read")
    print(out)
    return 0


def _show_forged(
    path: Path,
    out: Path,
    root: Path | None,
    quality: str | None,
    split: str | None,
    forge: str,
    landmarks: Path | None,
    identities: int,
    tile: int,
    seed: int | None,
) -> int:
    if is_run(path):
        raise TokdError(f"{path} is a run: --forge draws samples of a data set")
    scan = read_any(path, quality, root=root)
    manifest = keep(scan.manifest, quality, None, split)
    place = root_of(path, root)
    title = title_of(manifest, path, place)
    png, count = draw_forged(manifest, place, title, forge, landmarks, identities, tile, seed)
    write_bytes(out, png)
    print(f"{count} real frames with landmarks; two samples of each frame drawn")
    print(out)
    return 0
