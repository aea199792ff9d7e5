"""Data pipeline from files to batches: manifests, layouts, frames, samplers and data modules.

Nothing is imported here, so that ``tokd demo`` and ``tokd show`` start without torch;
``from tokd_lightning.data.ffpp import FFPPDataModule`` is the usual import.
"""
