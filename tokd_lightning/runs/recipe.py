"""The shipped experiments and their parts, found by name."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def recipes() -> Path:
    """Return the folder of the shipped ``experiments`` and ``configs``."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent  # a clone


def recipe_file(name: str | Path) -> Path:
    """Return the file that a name of an experiment, or of a part, stands for.

    A path that exists is taken unchanged. A bare name, ``ffpp_res18t``, is looked up in
    ``experiments/`` here, then among the shipped ones; so is a path such as
    ``experiments/ffpp_res18t.yaml`` or ``configs/distillers/at.yaml`` that does not exist here.

    Args:
        name: Name or path.

    Returns:
        The file; the path unchanged if there is none of that name.
    """
    path = Path(name)
    if path.exists() or path.is_absolute():
        return path
    bare = path.with_suffix(path.suffix or ".yaml")
    if len(path.parts) == 1:
        bare = Path("experiments") / bare
    found = (file for file in (bare, recipes() / bare) if file.is_file())
    return next(found, path)
