"""Seeds of a training batch, from the run's seed, the batch's number and its samples' places."""

from contextlib import AbstractContextManager
from typing import Any

from tokd_lightning.data.augment import seed_of, seeded
from tokd_lightning.data.frames import Batch


class BatchSeeds:
    """Mixin of data modules: random numbers of a batch that a resumed run repeats."""

    seed: int
    accumulate: int
    trainer: Any

    def sample_seeds(self, batch: Batch) -> list[int]:
        """Return a seed per sample of a training batch, for methods that draw for each image.

        They do not depend on how processes and accumulated parts share a batch.
        """
        whole, place, _ = self._share(batch)
        first = place * len(batch["label"])
        return [seed_of(self.seed, whole, 0, first + n) for n in range(len(batch["label"]))]

    def seeded(self, batch: Batch) -> AbstractContextManager[None]:
        """Seed torch's global generators for the forward pass of a training batch (dropout)."""
        rank, _ = self._process()
        return seeded(batch["image"].device, self.seed, batch["step"], rank, 1)

    def _share(self, batch: Batch) -> tuple[int, int, int]:
        """Return the number of a whole batch, this part's place in it, and its number of parts."""
        rank, world = self._process()
        whole, part = divmod(batch["step"], self.accumulate)
        return whole, part * world + rank, self.accumulate * world

    def _process(self) -> tuple[int, int]:
        """Return rank and world size."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
