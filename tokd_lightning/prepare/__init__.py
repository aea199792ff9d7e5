"""Face frames from videos: ``tokd prepare``.

Importing this package without its extra raises ``TokdError`` with the install command.
"""

from importlib.util import find_spec

from tokd_lightning.errors import TokdError

for _needed in ("av", "cv2"):
    if find_spec(_needed) is None:
        _message = f'decoding videos needs {_needed}: pip install "tokd-lightning[data]"'
        raise TokdError(_message)

from tokd_lightning.prepare.plan import LAYOUTS, Layout  # noqa: E402 (guarded)
from tokd_lightning.prepare.run import prepare  # noqa: E402 (guarded)

__all__ = ["LAYOUTS", "Layout", "prepare"]
