"""``tokd fit | validate | test | predict``: LightningCLI around run folders."""

import hashlib
import json
import shlex
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tokd_lightning.data import celebdf, ffpp, manifest_table, mixed
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.loggers.run import CURVES, build_loggers, is_rank_zero, loggers_of_test
from tokd_lightning.loggers.wandb_run import ended, publish
from tokd_lightning.metrics.classification import inverted
from tokd_lightning.modules import DetectionModule
from tokd_lightning.modules.checkpoint import read_checkpoint, state_hash
from tokd_lightning.modules.partial import HEADER, weights_hash
from tokd_lightning.runs.folder import Run, letting_go
from tokd_lightning.runs.identity import cell, measured_otherwise, recipe_hash
from tokd_lightning.runs.provenance import (
    UNKNOWN_ROWS,
    changed_data,
    provenance,
    rows_are_known,
    source_hash,
)
from tokd_lightning.runs.record import RunRecord
from tokd_lightning.training import checks, trainer_options
from tokd_lightning.training.arguments import add_arguments, check_values, config_first, link

# The data modules, and all of `modules` and `distillation`, so that a YAML can name their classes.
from tokd_lightning.training.callbacks import best_and_last
from tokd_lightning.training.callbacks.finite import FILE
from tokd_lightning.training.callbacks.progress import progress
from tokd_lightning.training.callbacks.resume import (
    DAMAGED,
    LastCheckpoint,
    checkpoint_to_resume,
    rows_of,
)
from tokd_lightning.training.console import (
    Parser,
    mistakes_in_one_line,
    print_metrics,
    quieten,
    some,
)
from tokd_lightning.training.folder import folder_of, resolve
from tokd_lightning.training.launch import LaunchingCLI, said_once
from tokd_lightning.training.learner import Learner
from tokd_lightning.training.normalisation import follow_weights
from tokd_lightning.training.pictures import write_pictures
from tokd_lightning.training.precision import settle_precision
from tokd_lightning.training.results import (
    about_fit,
    device_of,
    never_beat_majority,
    rounded,
    selected,
    skipped_frames,
    write_scores,
)
from tokd_lightning.training.shorthand import written_out

__all__ = ["TokdCLI", "celebdf", "ffpp", "manifest_table", "mixed", "run"]


class Finished(Exception):
    """Raised if the run is already finished and ``--reuse`` is given."""


class TokdCLI(LaunchingCLI):
    """CLI that builds model, data and trainer from a configuration and manages the run's folder.

    Args:
        args: Arguments as on the command line, the subcommand first.
        learner: The fit of a cohort that this is; None for one alone.
    """

    def __init__(self, args: list[str], learner: Learner | None = None) -> None:
        self.verb = args[0]
        self.learner = learner
        super().__init__(
            DetectionModule,
            FrameDataModule,
            save_config_callback=None,
            trainer_defaults={"use_distributed_sampler": False, "num_sanity_val_steps": 0},
            seed_everything_default=0,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=config_first(written_out(args)),
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there
        """Offer the one that was called: to parse takes a quarter of the time."""
        return {self.verb: super().subcommands()[self.verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options for the run folder, earlier runs and logging."""
        add_arguments(parser)
        link(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse and check the arguments, without Lightning's warning about ``sys.argv``."""
        self.config = parser.parse_args(args)
        self.recipe = recipe_hash(args)
        name = self.config.subcommand
        check_values(self.config[name])
        follow_weights(self.config[name], lambda: parser.parse_args(args, defaults=False)[name])
        self.resolved = resolve(self._parser(name), self.config[name])
        self.config_dump = self.resolved  # for hyperparameters, else dumped anew
        checks.check_arguments(self.resolved)
        if name == "fit":
            trainer_options.check_trainer_options(self.resolved["trainer"])

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration: a checkpoint must not override explicit values."""

    def before_instantiate_classes(self) -> None:
        """Name the run; find the checkpoint of a test, or an earlier fit's precision and recipe."""
        parser, config = self._parser(self.subcommand), self.config[str(self.subcommand)]
        self.cell = cell(self.resolved)
        self.run = Run(self._folder(parser, config))
        self._settle_precision(config)
        if self.subcommand != "fit" or not config.rerun:
            self.recipe = checks.kept_recipe(self.run, self.resolved, self.recipe)
        if self.learner is not None and self.subcommand == "fit":
            self.learner.read(self.resolved, self.run.folder)
        if self.subcommand == "test" and config.reuse:
            results = self.run.results()
            if results is not None and results.is_tested:
                raise Finished(f"{self.run.folder}: tested, reused")
        if self.subcommand != "fit":
            config["ckpt_path"] = str(config.get("ckpt_path") or self.run.best)
            if self.subcommand != "predict":
                config["verbose"] = False  # metrics are printed as a table instead
            checkpoint = read_checkpoint(config["ckpt_path"], self.cell.role)
            self.header = checkpoint[HEADER]
            self.weights = weights_hash(checkpoint["state_dict"])

    def instantiate_classes(self) -> None:
        """Build model, data and trainer after handling an earlier run."""
        config = self.config[str(self.subcommand)]
        if self.subcommand == "fit":
            if config.rerun or self.run.results() is None:
                checks.check_teacher(self.resolved["model"]["init_args"])
            self._handle_earlier_run(config)
        super().instantiate_classes()
        cast(DetectionModule, self.model).ask(self.datamodule, self.subcommand == "fit")
        if self.learner is not None:
            self.learner.share(self.model, self.datamodule, self.trainer)

    def _folder(self, parser: LightningArgumentParser, config: Any) -> Path:
        return folder_of(parser, config, self.resolved, self.subcommand == "fit")

    def _settle_precision(self, config: Any) -> None:
        """Fill in an unset precision, which is then not part of the run's name."""
        again = self.subcommand == "fit" and config.rerun
        precision = settle_precision(self.resolved, None if again else self.run.config())
        if precision is not None:
            config.trainer.precision = self.resolved["trainer"]["precision"] = precision

    def _handle_earlier_run(self, config: Any) -> None:
        if not is_rank_zero():
            # Rank zero has decided; with --rerun it has moved the folder away or will.
            if self.run.results() is not None and config.reuse:
                raise Finished(f"{self.run.folder}: finished, reused")
            if not config.rerun:
                found, _ = checkpoint_to_resume(self.run.last)
                config["ckpt_path"] = config.get("ckpt_path") if found is None else str(found)
            return
        self.run.hold()
        if config.rerun:
            if aside := self.run.set_aside():
                rank_zero_info(f"the earlier run is now in {aside}")
            return
        checks.check_earlier(self.run, self.resolved, config.reuse)
        if self.run.results() is None:
            self._resume(config)

    def _resume(self, config: Any) -> None:
        """Find the checkpoint to resume from; rename and report a damaged one."""
        found, wrong = checkpoint_to_resume(self.run.last)
        if found is None:
            return
        config["ckpt_path"] = str(found)
        said = f"resuming {self.run.folder} from {found.name}"
        if wrong:
            damaged = self.run.last.replace(self.run.last.with_name(DAMAGED))
            said += f", as {self.run.last.name} is damaged ({wrong}), and is {damaged.name} now"
        rank_zero_info(said)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run's checkpoint callbacks; before_fit adds the loggers."""
        config = self.config_init[str(self.subcommand)]
        kept = self.subcommand == "fit" and not config.trainer.fast_dev_run
        callbacks: list[Callback] = (
            best_and_last(self.run.best.parent, config.monitor, config.checkpoint_every)
            if kept
            else []
        )
        if self.learner is not None:
            self.learner.watch(callbacks)
        shown, without = progress(config.trainer.enable_progress_bar is not False)
        callbacks, kwargs = [*callbacks, shown], kwargs | without
        asked = config.trainer.logger
        config = {**config.trainer, "logger": False if asked in (None, True) else asked, **kwargs}
        trainer: Any = self._instantiate_trainer(config, callbacks)
        if self.subcommand == "fit":
            trainer_options.check_callbacks(trainer.callbacks)
        return cast(pl.Trainer, trainer)

    # fit

    def before_fit(self) -> None:
        """Open the run's folder, or raise Finished if a finished run is reused."""
        datamodule, config = self.datamodule, self.config["fit"]
        self.new = is_rank_zero() and not self.run.folder.exists()
        self.first = not self.run.folder.parent.exists()
        if not is_rank_zero() or config.trainer.fast_dev_run:
            return
        datamodule.setup("fit")
        trainer_options.check_classes(
            datamodule, config.trainer.limit_val_batches, self.trainer.world_size
        )
        self.inputs = checks.check_inputs(self.run, self.model, datamodule)
        if self.run.results() is not None:
            raise Finished(f"{self.run.folder}: finished, reused")
        names, rows = config.log.split(","), rows_of(config.ckpt_path) if config.ckpt_path else 0
        loggers = build_loggers(self.run.folder, names, self.cell, self.resolved, rows)
        self.inputs |= {
            "recipe": self.recipe,
            "sources": checks.sources_of(self.run, bool(config.ckpt_path)),
        }
        self.run.begin(self.resolved, self.inputs)
        self.run.hold()
        self.trainer.loggers = [*loggers, *self.trainer.loggers]

    def fit(self, **arguments: Any) -> None:
        """Train; an error before the first checkpoint leaves no run folder behind."""
        try:
            if self.learner is not None:
                self.learner.ready()
            self.trainer.fit(**arguments)
        except SystemExit:  # how Lightning ends after Ctrl-C
            if not self.trainer.interrupted:
                raise
            print(f"the same command resumes {self.run.folder}")
            raise KeyboardInterrupt from None
        except Exception:
            named = (self.run.folder / FILE).exists()  # names of the frames with a non-finite loss
            if self.new and not named and not self.run.last.exists():
                shutil.rmtree(self.run.folder, ignore_errors=True)
                if self.first:
                    with suppress(OSError):  # not empty: it has other runs by now
                        self.run.folder.parent.rmdir()
            raise

    def after_fit(self) -> None:
        """Write ``metrics.json``: the metrics of the selected epoch and their provenance."""
        if self.config["fit"].trainer.fast_dev_run:
            print("fast_dev_run: nothing was kept")
        elif self.trainer.is_global_zero:
            if not self.run.best.is_file():
                raise TokdError(
                    "the run ended before its first validation, so there is no best.ckpt: raise "
                    "--trainer.max_steps, max_time or limit_train_batches, or lower "
                    "--trainer.val_check_interval or check_val_every_n_epoch"
                )
            self._finish()

    def _finish(self) -> None:
        monitor = self.config["fit"].monitor
        hashes = self.inputs | {"weights": state_hash(self.run.best, self.cell.role)}
        [last] = [
            one for one in self.trainer.checkpoint_callbacks if isinstance(one, LastCheckpoint)
        ]
        chosen, metrics = selected(self.run, monitor)
        self.run.write_results(
            RunRecord(
                name=self.run.folder.name,
                status="finished",
                cell=self.cell,
                **about_fit(self.trainer, self.model, self.datamodule),
                selected=chosen,
                metrics=metrics,
                seconds={"fit": round(last.seconds, 1)}
                | ({} if last.whole else {"since": "resume"}),
                **provenance(self.resolved, hashes),
            )
        )
        if never_beat_majority(self.run.folder / CURVES):
            rank_zero_warn(
                "no validation accuracy was above that of always naming the larger class "
                f"({metrics['val/frame/majority']:.2%}): train longer, or change --data.balance "
                "or --monitor"
            )
        publish(self.trainer.loggers, self.run.folder)
        print(f"best epoch {chosen.epoch + 1} by {monitor}: {self.run.folder}")
        print(f"next: {shlex.join(['tokd', 'test', str(self.run.folder)])}")

    # validate, test, predict

    def before_validate(self) -> None:
        """Check that the checkpoint fits the configuration."""
        checks.check_fit_of(self.header, self.model, self.datamodule)

    before_predict = before_validate

    def before_test(self) -> None:
        """Check that the checkpoint fits, and whether this is the run's own test."""
        checks.check_fit_of(self.header, self.model, self.datamodule)
        self.own = False
        if self.trainer.is_global_zero:
            config, self.measured = self.config["test"], self.datamodule.data_hashes()
            self.other = self._other()
            self.own = not self.other
            if self.own:
                loggers = loggers_of_test(self.run, config.log.split(","), self.cell)
                self.trainer.loggers = [*loggers, *self.trainer.loggers]

    def _other(self) -> str:
        """Return how a test differs from the run's own test; empty if it is the run's own."""
        config, begun = self.config["test"], self.run.inputs() or {}
        record = self.run.results()
        weights = record.hashes.get("weights", self.weights) if record else self.weights
        if Path(config.ckpt_path).resolve() != self.run.best.resolve():
            return "another checkpoint"
        if weights != self.weights:
            return "best.ckpt has other weights than at the end of the fit"
        if repr(config.trainer.limit_test_batches) not in {"None", "1.0"}:  # 1 is one batch
            return "a part of the test split"
        if not begun:
            return "inputs.json is missing, so that its data cannot be compared"
        if what := changed_data(begun, self.measured):
            return what
        if not rows_are_known(begun):
            rank_zero_info(f"{self.run.folder}: {UNKNOWN_ROWS}")
        changed = measured_otherwise(self.resolved, self.run.config() or self.resolved)
        return f"measured with another {some(changed)}" if changed else ""

    def after_test(self) -> None:
        """Write the scores as CSV and, after the run's own test, complete ``metrics.json``."""
        if not self.trainer.is_global_zero:
            return
        metrics, record = rounded(self.trainer.callback_metrics), self.run.results()
        model = cast(DetectionModule, self.model)
        write_scores(model, self.run.folder, "test" if self.own else self._stage())
        if self.own and record is not None:
            tested = {
                "weights": self.weights,
                "precision": str(self.trainer.precision),
                "device": device_of(self.trainer),
            }
            self.run.save_config("test", self.resolved)
            self.run.write_results(
                record.with_test(
                    metrics,
                    skipped=skipped_frames(self.datamodule),
                    partial=self.datamodule.partial,
                    source=source_hash(),
                    tested=tested,
                )
            )
            write_pictures(model, self.datamodule, self.run.folder, self.config["test"].pictures)
            publish(self.trainer.loggers, self.run.folder)
        else:
            print(f"metrics.json is left as it is: {self.other or 'the fit is not finished'}")
        print_metrics(metrics, "test", self.run.folder)
        if line := inverted(model.scores):
            print(line)

    def _stage(self) -> str:
        """Return the file prefix of another test: a hash of its data, weights and options."""
        fit = self.run.config() or self.resolved
        said = [self.measured["data"], self.weights, measured_otherwise(self.resolved, fit, True)]
        return f"test-{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:6]}"

    def after_validate(self) -> None:
        """Print the validation metrics."""
        if self.trainer.is_global_zero:
            print_metrics(rounded(self.trainer.callback_metrics), "val", self.run.folder)

    def after_predict(self) -> None:
        """Write the scores as CSV."""
        if self.trainer.is_global_zero:
            write_scores(cast(DetectionModule, self.model), self.run.folder, "predict")


def run(args: list[str], learner: Learner | None = None) -> int:
    """Run one of the four subcommands and return the exit code.

    Args:
        args: Arguments as on the command line, the subcommand first.
        learner: The fit of a cohort that this is; None for one alone.

    Raises:
        TokdError: Any error the user can fix, including Lightning's misconfigurations.
    """
    if learner is None:
        quieten()
    with mistakes_in_one_line(), ended(), said_once(), letting_go():
        try:
            TokdCLI(args, learner)
        except Finished as finished:
            print(finished)
        except SIGTERMException:  # Lightning raises it with exit code 0
            raise KeyboardInterrupt from None
    return 0
