"""``tokd fit | validate | test | predict``: LightningCLI around run folders."""

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tokd_lightning.arguments import add_arguments, check_values, config_first
from tokd_lightning.checks import check_arguments, check_earlier, check_fit_of, check_inputs
from tokd_lightning.console import Parser, mistakes_in_one_line, print_metrics, quieten

# The data modules, as all of `modules` and `distillation`, so that a YAML may name their classes.
from tokd_lightning.data import celebdf, ffpp, manifest_table
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.launch import LaunchingCLI, said_once
from tokd_lightning.loggers import build_loggers, is_rank_zero, loggers_of_test, progress
from tokd_lightning.modules import DetectionModule
from tokd_lightning.modules.checkpoint import HEADER, best_and_last, read_checkpoint, state_hash
from tokd_lightning.modules.finite import FILE
from tokd_lightning.modules.last import rows_of
from tokd_lightning.naming import EVALUATION, Config, cell, run_name
from tokd_lightning.pictures import write_pictures
from tokd_lightning.precision import settle_precision
from tokd_lightning.provenance import provenance, source_hash
from tokd_lightning.recipe import recipe_hash
from tokd_lightning.results import about_fit, rounded, selected, skipped_frames, write_scores
from tokd_lightning.runs import Run, letting_go
from tokd_lightning.wandb_run import ended, publish

__all__ = ["TokdCLI", "celebdf", "ffpp", "manifest_table", "run"]


class Finished(Exception):
    """The run asked for is finished already and ``--reuse`` was given."""


class TokdCLI(LaunchingCLI):
    """Builds model, data and trainer from a configuration and keeps the run's folder.

    Args:
        args: Arguments as on the command line, the subcommand first.
    """

    def __init__(self, args: list[str]) -> None:
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
            args=config_first(args),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add where runs lie, what to do with an earlier one, where curves go."""
        add_arguments(parser)
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, without Lightning's warning about ``sys.argv``, and refuse what cannot work."""
        self.config = parser.parse_args(args)
        self.recipe = recipe_hash(args)
        name = self.config.subcommand
        check_values(self.config[name])
        self.resolved = _resolve(self._parser(name), self.config[name])
        check_arguments(self.resolved)

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as given: a checkpoint must not override explicit values."""

    def before_instantiate_classes(self) -> None:
        """Name the run; find the checkpoint of a test, or what an earlier fit has left."""
        parser, config = self._parser(self.subcommand), self.config[str(self.subcommand)]
        self.cell = cell(self.resolved)
        self.run = Run(self._folder(parser, config))
        self._settle_precision(config)
        if self.subcommand == "fit":
            self._meet_earlier_run(config)
        else:
            config["ckpt_path"] = str(config.get("ckpt_path") or self.run.best)
            if self.subcommand != "predict":
                config["verbose"] = False  # of the metrics: there is a table for them
            self.header = read_checkpoint(config["ckpt_path"], self.cell.role)[HEADER]

    def _folder(self, parser: LightningArgumentParser, config: Any) -> Path:
        runs, files = Path(config.runs), [Path(str(path)) for path in config.get("config") or []]
        if files and (files[0].parent / "fit.yaml").is_file():
            return files[0].parent  # the configuration that a run has saved names that run
        if config.name:
            return runs / str(config.name)
        alone = parser.parse_args(["--config", str(files[0])]) if files else None
        experiment = None if alone is None else _resolve(parser, alone)
        folder = runs / run_name(self.resolved, experiment)
        if self.subcommand != "fit" and not Run(folder).best.is_file():
            # A test may be given a smaller batch or on_error; the fit went without.
            trained = runs / run_name(self.resolved, experiment, EVALUATION)
            return trained if Run(trained).best.is_file() else folder
        return folder

    def _settle_precision(self, config: Any) -> None:
        """Fill in a precision left open, which is no part of the run's name then."""
        anew = self.subcommand == "fit" and config.rerun
        precision = settle_precision(self.resolved, None if anew else self.run.config())
        if precision is not None:
            config.trainer.precision = self.resolved["trainer"]["precision"] = precision

    def _meet_earlier_run(self, config: Any) -> None:
        if not is_rank_zero():
            # Rank zero has decided; its --rerun has moved the folder away by now or will.
            if self.run.results() is not None and config.reuse:
                raise Finished(f"{self.run.folder}: finished, reused")
            if self.run.last.is_file() and not config.rerun:
                config["ckpt_path"] = str(self.run.last)
            return
        self.run.hold()
        if config.rerun:
            if aside := self.run.set_aside():
                rank_zero_info(f"the earlier run now lies in {aside}")
            return
        check_earlier(self.run, self.resolved, config.reuse)
        if self.run.results() is None and self.run.last.is_file():
            config["ckpt_path"] = str(self.run.last)
            rank_zero_info(f"resuming {self.run.folder} from {self.run.last.name}")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer with the run's checkpoints; loggers join when the run starts."""
        config = self.config_init[str(self.subcommand)]
        kept = self.subcommand == "fit" and not config.trainer.fast_dev_run
        callbacks: list[Callback] = (
            best_and_last(self.run.best.parent, config.monitor, config.checkpoint_every)
            if kept
            else []
        )
        shown, without = progress(config.trainer.enable_progress_bar is not False)
        callbacks, kwargs = [*callbacks, shown], kwargs | without
        asked = config.trainer.logger
        config = {**config.trainer, "logger": False if asked in (None, True) else asked, **kwargs}
        return self._instantiate_trainer(config, callbacks)

    # fit

    def before_fit(self) -> None:
        """Open the run's folder, or end where a finished run is to be reused."""
        datamodule, config = self.datamodule, self.config["fit"]
        self.new = is_rank_zero() and not self.run.folder.exists()
        self.first = not self.run.folder.parent.exists()
        if not is_rank_zero() or config.trainer.fast_dev_run:
            return
        datamodule.setup("fit")
        self.inputs = check_inputs(self.run, self.model, datamodule)
        if self.run.results() is not None:
            raise Finished(f"{self.run.folder}: finished, reused")
        views, rows = config.log.split(","), rows_of(config.ckpt_path) if config.ckpt_path else 0
        loggers = build_loggers(self.run.folder, views, self.cell, self.resolved, rows)
        self.run.begin(self.resolved, {**self.inputs, "recipe": self.recipe})
        self.run.hold()
        self.trainer.loggers = [*loggers, *self.trainer.loggers]
        self.started = time.monotonic()

    def fit(self, **arguments: Any) -> None:
        """Train; what fails before the first checkpoint leaves no run folder behind."""
        try:
            self.trainer.fit(**arguments)
        except SystemExit:  # how Lightning ends after Ctrl-C
            if not self.trainer.interrupted:
                raise
            print(f"the same command resumes {self.run.folder}")
            raise KeyboardInterrupt from None
        except Exception:
            named = (self.run.folder / FILE).exists()  # frames of a loss that is not finite
            if self.new and not named and not self.run.last.exists():
                shutil.rmtree(self.run.folder, ignore_errors=True)
                if self.first:
                    with suppress(OSError):  # it has other runs by now
                        self.run.folder.parent.rmdir()
            raise

    def after_fit(self) -> None:
        """Write ``metrics.json``: the metrics of the selected epoch and what they came from."""
        if self.config["fit"].trainer.fast_dev_run:
            print("fast_dev_run: nothing was kept")
        elif self.trainer.is_global_zero:
            if not self.run.best.is_file():
                raise TokdError(
                    "the run has ended before a validation, so that there is no best.ckpt: let "
                    "--trainer.max_steps, max_time and limit_train_batches reach one, or set "
                    "--trainer.val_check_interval or check_val_every_n_epoch to fewer"
                )
            self._finish()

    def _finish(self) -> None:
        monitor = self.config["fit"].monitor
        hashes = self.inputs | {"recipe": self.recipe}
        if self.cell.role == "teacher":
            hashes["weights"] = state_hash(self.run.best)  # what its students record of it
        results = {
            "name": self.run.folder.name,
            "status": "finished",
            "cell": self.cell._asdict(),
            **about_fit(self.trainer, self.model, self.datamodule),
            **selected(self.run, monitor),
            "seconds": {"fit": round(time.monotonic() - self.started, 1)},
            **provenance(self.resolved, hashes),
        }
        self.run.write_results(results)
        publish(self.trainer.loggers, self.run.folder)
        epoch = results["selected"]["epoch"] + 1
        print(f"best epoch {epoch} by {monitor}: {self.run.folder}")

    # validate, test, predict

    def before_validate(self) -> None:
        """See that the checkpoint fits the configuration."""
        check_fit_of(self.header, self.model, self.datamodule)

    def before_predict(self) -> None:
        """See that the checkpoint fits the configuration."""
        check_fit_of(self.header, self.model, self.datamodule)

    def before_test(self) -> None:
        """See that the checkpoint fits; find out whether this is the run's own test."""
        check_fit_of(self.header, self.model, self.datamodule)
        self.own = False
        if self.trainer.is_global_zero:
            config, self.datahash = self.config["test"], self.datamodule.data_hash()
            self.own = (
                Path(config.ckpt_path) == self.run.best
                and repr(config.trainer.limit_test_batches) in {"None", "1.0"}  # 1 is one batch
                and (self.run.inputs() or {}).get("data") == self.datahash
            )
            if self.own:
                loggers = loggers_of_test(self.run, config.log.split(","), self.cell)
                self.trainer.loggers = [*loggers, *self.trainer.loggers]

    def after_test(self) -> None:
        """Write the scores as CSV and, after the run's own test, complete ``metrics.json``."""
        if not self.trainer.is_global_zero:
            return
        metrics, results = rounded(self.trainer.callback_metrics), self.run.results()
        model = cast(DetectionModule, self.model)
        stage = "test" if self.own else f"test-{self.datahash[:6]}"
        write_scores(model, self.run.folder, stage)
        if self.own and results is not None:
            results["metrics"] |= metrics
            results["skipped"] |= skipped_frames(self.datamodule)
            results["hashes"]["tested_with"] = source_hash()
            self.run.save_config("test", self.resolved)
            self.run.write_results(results)
            write_pictures(model, self.datamodule, self.run.folder, self.config["test"].pictures)
            publish(self.trainer.loggers, self.run.folder)
        else:
            why = "the fit is not finished" if self.own else "other frames, or another checkpoint"
            print(f"metrics.json is left as it is: {why}")
        print_metrics(metrics, "test", self.run.folder)

    def after_validate(self) -> None:
        """Print the validation metrics."""
        if self.trainer.is_global_zero:
            print_metrics(rounded(self.trainer.callback_metrics), "val", self.run.folder)

    def after_predict(self) -> None:
        """Write the scores as CSV."""
        if self.trainer.is_global_zero:
            write_scores(cast(DetectionModule, self.model), self.run.folder, "predict")


def run(args: list[str]) -> int:
    """Run one of the four subcommands; returns the exit code.

    Raises:
        TokdError: Anything that the user can mend, Lightning's misconfigurations among it.
    """
    quieten()
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where a method of the user's own may lie
    with mistakes_in_one_line(), ended(), said_once(), letting_go():
        try:
            TokdCLI(args)
        except Finished as finished:
            print(finished)
        except SIGTERMException:  # exit code 0 as Lightning raises it
            raise KeyboardInterrupt from None
    return 0


def _resolve(parser: LightningArgumentParser, config: Any) -> Config:
    text = parser.dump(config, skip_link_targets=False)
    return dict(yaml.safe_load(text))
