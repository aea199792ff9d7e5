"""``tokd verify``: everything that can silently spoil a data set, looked for and told."""

from tokd_lightning.data.verify.verifying import verify

__all__ = ["verify"]
