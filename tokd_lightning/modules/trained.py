"""A trained network loaded from its checkpoint, for tests on any data."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from tokd_lightning.errors import TokdError
from tokd_lightning.models.rebuild import drawn_from, rebuild
from tokd_lightning.modules.checkpoint import read_checkpoint, under
from tokd_lightning.modules.detection import DetectionModule
from tokd_lightning.modules.partial import HEADER, weights_hash


class TrainedModule(DetectionModule):
    """The network of a checkpoint: S_B with G_Sc (Sec. 4.3), the teacher or a detector.

    It is scored by the code that tests a run, and cannot be trained.

    Args:
        path: A checkpoint written by ``tokd fit``.

    Attributes:
        kind: ``student``, ``teacher`` or ``detector``.
        header: The checkpoint's header: network, mean, std, input size, data.
        weights: Hash of all its weights, as a student records its teacher's.

    Raises:
        TokdError: The checkpoint does not exist, or its weights do not fit the network it records.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(partial(torch.optim.SGD, lr=0.0), partial(ConstantLR))
        checkpoint = read_checkpoint(path)
        self.header: dict[str, Any] = checkpoint[HEADER]
        self.kind = str(self.header["kind"])
        self.weights = weights_hash(checkpoint["state_dict"])
        with drawn_from(self.seed):
            self.trained = rebuild(self.header["network"], self.kind)
        try:
            self.trained.load_state_dict(under(checkpoint["state_dict"], f"{self.kind}."))
        except RuntimeError as error:
            raise TokdError(f"the weights in {path} do not fit the network it records") from error
        self.to(memory_format=torch.channels_last)

    @property
    def network(self) -> nn.Module:
        """Network of the checkpoint."""
        return self.trained
