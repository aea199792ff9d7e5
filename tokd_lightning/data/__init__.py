"""Files on disk become batches: manifests, layouts, frames, samplers and the data modules.

Nothing is imported here, so that ``tokd demo`` and ``tokd show`` start without torch;
``from tokd_lightning.data.ffpp import FFPPDataModule`` is the usual entry.
"""
