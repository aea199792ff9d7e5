"""Mini-FF++ made offline: synthetic clips, four forgeries, a real encoder."""

from tokd_lightning.demo.make import DEFAULT_IDENTITIES, make_demo

__all__ = ["DEFAULT_IDENTITIES", "make_demo"]
