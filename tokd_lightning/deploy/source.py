"""Source of an export: a run, or a checkpoint without its run."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation.open_run import open_run
from tokd_lightning.models import Student
from tokd_lightning.models.detectors import Detector
from tokd_lightning.modules.trained import TrainedModule
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config, cell
from tokd_lightning.runs.record import RunRecord


class Source(NamedTuple):
    """A student or detector to export.

    Attributes:
        name: Name of its run or checkpoint.
        model: The training module that holds it, in ``eval()``.
        config: Configuration of the run's fit; None for a checkpoint outside a run.
        run: The run whose ``best.ckpt`` it is; None for any other checkpoint.
    """

    name: str
    model: TrainedModule
    config: Config | None
    run: Run | None

    @property
    def student(self) -> Student | Detector:
        """S_B with G_Sc, or the detector."""
        return cast(Student | Detector, self.model.network)

    @property
    def network(self) -> str:
        """Name of its network."""
        spec = self.model.header["network"]
        return str(spec.get("detector") or spec["backbone"])

    @property
    def results(self) -> RunRecord | None:
        """Record of the run if it is finished and describes these weights; else None."""
        record = self.run.results() if self.run else None
        return None if record is None or self._is_of_others(record) else record

    @property
    def outdated(self) -> bool:
        """Whether the run's record describes other weights than its best checkpoint."""
        record = self.run.results() if self.run else None
        return record is not None and self._is_of_others(record)

    def _is_of_others(self, record: RunRecord) -> bool:
        return record.hash_of("weights") not in ("", self.model.weights)

    @property
    def crop(self) -> int:
        """Side of the network's input in pixels."""
        return int(self.model.header["input_size"])

    @property
    def size(self) -> int:
        """Side of the image that the input is cropped from, in pixels."""
        given = self._data.get("size")
        return self.crop if given is None else int(given)

    @property
    def _data(self) -> Config:
        return dict(self.config["data"]["init_args"]) if self.config else {}

    def about(self) -> dict[str, Any]:
        """Return the provenance of the network for ``model.json``."""
        record = self.results
        results = record.content() if record else {}
        kept = ("balance", "precision", "seed", "selected", "commit", "versions")
        data = self.model.header["data"]
        return {
            "data": data,
            # Without results, the demo's data are recognised by their name.
            "synthetic": results.get("synthetic", data.startswith("synthetic-")),
            "cell": cell(self.config)._asdict() if self.config else None,
            "weights": self.model.weights,
            **{key: results[key] for key in kept if key in results},
            "hashes": results.get("hashes", {}),
        }


def open_source(path: Path) -> Source:
    """Read the student to export.

    Args:
        path: A run's folder, or a checkpoint.

    Raises:
        TokdError: The path is neither, or holds a teacher or a detector
            that needs more than images.
    """
    run, config = None, None
    if not path.exists():
        raise TokdError(
            f"{path} does not exist: name a folder that tokd fit made, or a .ckpt in it"
        )
    folder = path if path.is_dir() else path.absolute().parent.parent
    beside = (folder / "fit.yaml").is_file()
    if path.is_dir() or (path.name == "best.ckpt" and beside):
        trained = open_run(folder)
        run, config, model = trained.run, trained.config, trained.model
    else:
        model = TrainedModule(path)
        config = Run(folder).config() if beside else None
    if model.kind == "teacher":
        raise TokdError(f"{path} holds a teacher; only students and detectors can be exported")
    if why := getattr(model.network, "unexported", ""):
        raise TokdError(f"{path} cannot be exported: {why}")
    model.eval()
    name = folder.resolve().name if beside else path.stem
    return Source(name if run or not beside else f"{name}-{path.stem}", model, config, run)
