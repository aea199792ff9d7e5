"""Choice of evenly spaced frames."""

import numpy as np


def evenly_spaced(length: int, count: int) -> list[int]:
    """Choose positions spread evenly over a whole video (paper, Sec. 5.1).

    The video is cut into ``count`` segments of equal length and the frame at the centre of each
    is taken, so positions never repeat and neither end is preferred.

    Args:
        length: Number of frames in the video.
        count: Number of frames to choose; all are taken if there are fewer.

    Returns:
        Increasing positions in ``[0, length)``, ``min(length, count)`` of them.

    Raises:
        ValueError: ``count`` below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if length <= count:
        return list(range(length))
    positions: list[int] = ((2 * np.arange(count) + 1) * length // (2 * count)).tolist()
    return positions
