"""Label implied by the path of an image: ``real/…``, ``training_fake/…``."""

import re
from functools import lru_cache

_REAL = re.compile("reals?|originals?|pristine|genuine|authentic")
_FAKE = re.compile("fakes?|deepfakes?|manipulated|forged|synthesis|synthesized|faceswap")
_WORD = re.compile("[a-z]+")
# In Celeb-DF's trees this is the quality, of real and fake alike.
_SILENT = "original"


def said_label(path: str) -> int | None:
    """Return the label that the folders and the name of a file agree on.

    Args:
        path: Relative to the root, with forward slashes.

    Returns:
        0 for real, 1 for fake; None if no part of the path implies a label, or two parts disagree.
    """
    said = {label for part in path.casefold().split("/") if (label := _said(part)) is not None}
    return said.pop() if len(said) == 1 else None


@lru_cache(maxsize=4096)
def _said(part: str) -> int | None:
    if part == _SILENT:
        return None
    words = _WORD.findall(part)
    real, fake = (any(map(form.fullmatch, words)) for form in (_REAL, _FAKE))
    return None if real == fake else int(fake)
