"""``tokd dashboard``: a W&B workspace and a report that compare the runs of a folder."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_json
from tokd_lightning.loggers.wandb_account import base_url, has_key, setting, unreachable
from tokd_lightning.report.compare import Comparison, side_by_side

NAME = "tokd_lightning: methods compared"


class Panel(NamedTuple):
    """A panel: bars of the summary, curves over an axis, pictures or a media table."""

    kind: Literal["bars", "curves", "pictures", "table"]
    title: str
    metrics: tuple[str, ...]
    axis: str = ""


def _curves(title: str, *metrics: str, axis: str = "trainer/global_step") -> Panel:
    return Panel("curves", title, metrics, axis)


SECTIONS: Mapping[str, tuple[Panel, ...]] = {
    "Results": (
        Panel("bars", "accuracy, frames", ("test/frame/acc",)),
        Panel("bars", "balanced accuracy, frames", ("test/frame/balanced_acc",)),
        Panel("bars", "AUC, frames", ("test/frame/auc",)),
        Panel("bars", "AUC, videos", ("test/video/auc",)),
        Panel("bars", "majority baseline, frames", ("test/frame/majority",)),
        Panel("table", "per forgery", ("tables/methods",)),
    ),
    "Curves": (
        _curves("validation accuracy, frames", "val/frame/acc", axis="epoch"),
        _curves("validation AUC, frames", "val/frame/auc", axis="epoch"),
        _curves("validation cross-entropy", "val/loss", axis="epoch"),
        _curves("training loss", "train/loss"),
        _curves("cross-entropy", "train/ce"),
        _curves("loss of the RGB branch", "train/rgb"),
        _curves("loss of the frequency branch", "train/frequency"),
    ),
    "Gradients": (
        _curves("cosine of the rotated entries, before R", "gradient/cosine_rotated_before"),
        _curves("cosine of the rotated entries, after R", "gradient/cosine_rotated_after"),
        _curves("cosine of all entries, before R", "gradient/cosine_full_before"),
        _curves("cosine of all entries, after R", "gradient/cosine_full_after"),
        _curves("norm ratio RGB / frequency", "gradient/norm_ratio"),
        _curves("distance of R from I", "rotation/distance_rgb", "rotation/distance_frequency"),
        _curves(
            "orthogonality error of R",
            "rotation/orthogonality_rgb",
            "rotation/orthogonality_frequency",
        ),
    ),
    "Pictures": (
        Panel("pictures", "x, x^F and attention", ("pictures",)),
        Panel("table", "most confident errors", ("tables/errors",)),
    ),
    "Explanations": (
        Panel("pictures", "Grad-CAM", ("explanations/gradcam",)),
        Panel("pictures", "scores without bands of frequency", ("explanations/bands",)),
        Panel("pictures", "attention of the RFAMs", ("explanations/rfam",)),
        Panel("table", "scores without bands of frequency", ("tables/bands",)),
    ),
}
# Runs that differ only in the seed share one line: all runs of a table have the table's group.
_CELL = (
    "model.init_args.student",
    "model.init_args.distiller.class_path",
    "model.init_args.distiller.init_args.branches",
)


def dashboard(
    runs: Path,
    *,
    project: str | None = None,
    entity: str | None = None,
    dry_run: bool = False,
    out: Path | None = None,
) -> int:
    """Build the workspace and the report, and save them on W&B.

    Args:
        runs: Folder of the run folders, the source of the report's numbers.
        project: W&B project; None takes WANDB_PROJECT, else ``tokd``.
        entity: W&B user or team; None takes WANDB_ENTITY, else the account's default.
        dry_run: Save nothing on W&B; without ``out``, print an outline.
        out: JSON file for the specifications of both, as W&B would receive them.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: No runs, no account, W&B refuses, or wandb-workspaces is not installed.
    """
    project = project or setting("project") or "tokd"
    entity = entity or setting("entity") or ""
    found = side_by_side(run_folders(runs))
    if not dry_run and not has_key():
        raise TokdError(
            "no W&B account is configured: log in with `wandb login` or set WANDB_API_KEY, or look "
            "at the dashboard with --dry-run"
        )
    if not dry_run:
        if reason := unreachable():
            raise TokdError(
                f"{base_url()} cannot be reached ({reason}): see to the network and its proxy, or "
                "look at the dashboard with --dry-run"
            )
        entity = entity or _default_entity()
    workspace, report = _workspace(project, entity), _report(project, entity, found)
    if out is not None:
        specs = {"workspace": _spec(workspace), "report": _spec(report)}
        write_json(out, specs)
        print(out)
    elif dry_run:
        print("\n".join(outline(project, found)))
    if not dry_run:
        _save(workspace, report)
    return 0


def run_folders(runs: Path) -> list[Path]:
    """Return the run folders in a folder, except those that ``--rerun`` has set aside.

    Raises:
        TokdError: There are no runs.
    """
    files = (file for name in ("fit.yaml", "metrics.json") for file in runs.glob(f"*/{name}"))
    folders = sorted({file.parent for file in files})
    found = [folder for folder in folders if not re.search(r"\.old-\d+$", folder.name)]
    if not found:
        raise TokdError(f"no run in {runs}: name the folder that tokd fit keeps its runs in")
    return found


def outline(project: str, found: Comparison) -> Iterator[str]:
    """Yield the contents of the workspace and the report as lines of text."""
    yield f"workspace “{NAME}” of project {project}"
    for section, panels in SECTIONS.items():
        yield f"  {section}"
        for panel in panels:
            over = f" over {panel.axis}" if panel.axis else ""
            yield f"    {panel.kind}: {panel.title} ({', '.join(panel.metrics)}{over})"
    yield f"report “{NAME}” of project {project}"
    for text in (*introduction(found), found.markdown()):
        yield ""
        yield text.rstrip()


def introduction(found: Comparison) -> list[str]:
    """Return the report's introduction: what is compared, and the baselines of the accuracies."""
    runs = [row for row in found.lines if row.run]
    known = [row for row in runs if row.data]
    data = ", ".join(dict.fromkeys(row.data for row in known))
    methods = ", ".join(dict.fromkeys(f"{row.method} ({row.branches})" for row in known))
    networks = ", ".join(dict.fromkeys(row.backbone for row in known))
    seeds = ", ".join(map(str, sorted({row.seed for row in known if row.seed is not None})))
    texts = [
        f"{len(runs)} runs on {data or 'no data yet'}. Methods and their branches: {methods}. "
        f"Networks: {networks}. Seeds: {seeds}. The numbers are read from the run folders "
        "(metrics.json); panels group runs that differ only in the seed."
    ]
    if any(row.synthetic for row in runs):
        texts.append("The data are synthetic: this shows that the machinery works, no more.")
    for row in found.lines:
        accuracy = row.metrics.get("test/frame/acc")
        if not row.run and accuracy is not None:
            texts.append(
                f"The majority baseline on {row.data}: always naming the larger class is "
                f"right on {100 * accuracy:.2f} % of the test frames, with an AUC of 50 %."
            )
    return texts


def _library(name: str) -> Any:
    try:
        return import_module(f"wandb_workspaces.{name}")  # takes a second
    except ModuleNotFoundError as error:
        raise TokdError(
            'wandb-workspaces is not installed: pip install "tokd-lightning[dashboard]"'
        ) from error


def _panels(section: str) -> list[Any]:
    wr = _library("reports.v2")

    def make(panel: Panel) -> Any:
        if panel.kind == "bars":
            return wr.BarPlot(title=panel.title, metrics=list(panel.metrics), max_bars_to_show=100)
        if panel.kind == "curves":
            return wr.LinePlot(title=panel.title, x=panel.axis, y=list(panel.metrics))
        if panel.kind == "pictures":
            return wr.MediaBrowser(title=panel.title, media_keys=list(panel.metrics))
        return wr.WeavePanelSummaryTable(table_name=panel.metrics[0])

    return [make(panel) for panel in SECTIONS[section]]


def _workspace(project: str, entity: str) -> Any:
    ws = _library("workspaces")
    sections = [ws.Section(name=name, panels=_panels(name), is_open=True) for name in SECTIONS]
    groups = [ws.Metric("Group"), *(ws.Config(key) for key in _CELL)]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=100),
        runset_settings=ws.RunsetSettings(groupby=groups),
    )


def _report(project: str, entity: str, found: Comparison) -> Any:
    wr = _library("reports.v2")
    blocks: list[Any] = [wr.P(text) for text in introduction(found)]
    blocks.append(wr.MarkdownBlock(found.markdown()))
    groups = ["Group", *(f"config.{key}" for key in _CELL)]
    for section in SECTIONS:
        runset = wr.Runset(name="All runs", groupby=groups)
        blocks += [wr.H2(section), wr.PanelGrid(runsets=[runset], panels=_panels(section))]
    return wr.Report(project=project, entity=entity, title=NAME, blocks=blocks, width="fluid")


def _spec(built: Any) -> dict[str, Any]:
    text = built._to_model().model_dump_json(by_alias=True, exclude_none=True)
    return dict(json.loads(text))


def _default_entity() -> str:
    import wandb

    try:
        return str(wandb.Api().default_entity or "")
    except Exception as error:
        raise _refused(error) from error


def _save(workspace: Any, report: Any) -> None:
    try:
        report.save()
        workspace.save()
    except Exception as error:
        raise _refused(error) from error
    print(f"report: {report.url}\nworkspace: {workspace.url}")


def _refused(error: Exception) -> TokdError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return TokdError(f"W&B does not take the dashboard ({reason}): see it with --dry-run")
