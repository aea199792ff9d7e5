"""``tokd verify``: checks of a data set for everything that can silently spoil it."""

from tokd_lightning.verify.run import verify

__all__ = ["verify"]
