"""``python -m tokd_lightning``."""

import sys

from tokd_lightning.cli import main

sys.exit(main())
