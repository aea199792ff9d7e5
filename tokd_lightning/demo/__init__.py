"""Mini-FF++ made offline: synthetic clips, four forgeries, a real encoder.

Importing this package without its extra raises ``TokdError`` with the install command.
"""

from importlib.util import find_spec

from tokd_lightning.errors import TokdError

for _needed in ("av", "cv2"):
    if find_spec(_needed) is None:
        _message = f'making and decoding videos needs {_needed}: pip install "tokd-lightning[data]"'
        raise TokdError(_message)

from tokd_lightning.demo.make import DEFAULT_IDENTITIES, make_demo  # noqa: E402 (guarded)

__all__ = ["DEFAULT_IDENTITIES", "make_demo"]
