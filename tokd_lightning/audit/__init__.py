"""``tokd audit``: what a result is worth, from stored scores and, if given, the data."""

from tokd_lightning.audit.record import audit_run

__all__ = ["audit_run"]
