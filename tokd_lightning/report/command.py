"""``tokd report``: read the runs, write the report in all formats, and print a summary."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_text
from tokd_lightning.report import text
from tokd_lightning.report.build import build
from tokd_lightning.report.bundled import opened, state_in, write
from tokd_lightning.report.evaluated_frames import evaluations_frame
from tokd_lightning.report.frames import headers, long_frame, records, verdicts_frame
from tokd_lightning.report.latex import latex, latex_pairs
from tokd_lightning.report.model import CITED, Report, TableReport
from tokd_lightning.report.page import html, markdown
from tokd_lightning.report.reader import Reader, StateOf, state_of
from tokd_lightning.runs.bundle import Bundle
from tokd_lightning.tables.entries import PaperTable
from tokd_lightning.tables.grid import DATASETS, DEMO, EXPERIMENTS, GridCell, Option, settings_of
from tokd_lightning.tables.paper import PAPER, TABLES, paper_table
from tokd_lightning.tables.state import Looker


def report(
    runs: Path,
    table: Sequence[str] | None = None,
    dataset: Sequence[str] | None = None,
    out: Path | None = None,
    settings: Sequence[str] = (),
    filled: bool = False,
    recipe: str = "paper",
    *,
    file: Path | None = None,
    bundle: Path | None = None,
    console: Console | None = None,
    state: StateOf | None = None,
) -> int:
    """Write ``report.{html,md,csv}``, ``tables/*.tex`` and ``figures/*.svg``, and print a summary.

    Args:
        runs: Folder of all run folders.
        table: Tables and figures, such as ``3``, ``figure4`` or ``beyond``; None for those that
            have results, or all if none has.
        dataset: Keys of :data:`DATASETS`; None for the paper's.
        out: Output folder; None for ``report`` in ``runs``, ``<file>-report`` next to ``file``.
        settings: ``KEY=VALUE`` each, as given to ``tokd table --set``: those runs are shown.
        filled: Whether the LaTeX tables leave out rows and columns that no run has filled; a table
            without any number of ours then has no file.
        recipe: Training recipe of the detectors of Tables 2 and 7 that is shown.
        file: A bundle to report instead of ``runs``.
        bundle: A bundle of all runs to write instead of a report.
        console: Console to print to; standard output by default.
        state: Function that returns the state of a cell. By default runs are checked for being
            stale if the ``experiments`` folder exists.

    Returns:
        The exit code, 0; files that cannot be read become warnings in the report.

    Raises:
        TokdError: ``runs`` is not a folder, a name is unknown, or the report cannot be written.
    """
    console = console or Console()
    for name in dataset or ():
        if name not in DATASETS:
            raise TokdError(f"--dataset {name}: choose from {', '.join(DATASETS)}")
    common = settings_of(settings)
    keys = [_key(name) for name in table or ()]
    if file is not None:
        if bundle is not None:
            raise TokdError(f"{file} is a bundle already: --bundle is written from --runs DIR")
        with opened(file) as found:
            reader = Reader(found.folder, state or state_in(found))
            made = _made(reader, keys, dataset, common, recipe)
        lines = (line.replace(str(found.folder), found.runs) for line in made.warnings)
        made = replace(made, runs=found.runs, warnings=tuple(lines), bundle=_about(file, found))
        folder = out or file.with_name(f"{file.stem}-report")
    else:
        if not runs.is_dir():
            raise TokdError(f"--runs {runs} is not a folder")
        if bundle is not None:
            if table or dataset or out or filled:
                raise TokdError("--bundle holds all runs: leave --table, --dataset, --out and "
                                "--filled to the report of it, tokd report FILE")  # fmt: skip
            number = write(runs, bundle, state or _compared(runs), common, recipe)
            size = bundle.stat().st_size / 1e6
            said = f"{number[0]} runs, {number[1]} files, {size:.1f} MB: {bundle}"
            console.print(Text(said), soft_wrap=True)
            return 0
        made = _made(Reader(runs, state or _compared(runs)), keys, dataset, common, recipe)
        folder = out or runs / "report"
    _write(made, folder, filled)
    _print(made, folder, console)
    return 0


def _about(file: Path, found: Bundle) -> str:
    commit = f", commit {found.commit[:12]}" if found.commit else ""
    return f"{file.name} (tokd_lightning {found.version}{commit})"


def _made(
    reader: Reader,
    keys: Sequence[str],
    dataset: Sequence[str] | None,
    common: tuple[Option, ...],
    recipe: str,
) -> Report:
    data = _with_demo(reader.runs, tuple(dataset or PAPER))
    tables = [paper_table(key, data, recipe).sharing(common) for key in keys]
    every = [paper_table(key, data, recipe).sharing(common) for key in TABLES]
    return build(tables or _begun(reader, every), reader)


def _with_demo(runs: Path, datasets: tuple[str, ...]) -> tuple[str, ...]:
    """Replace ``demo`` with the qualities of the mini-FF++ for which there are runs."""
    if "demo" not in datasets:
        return datasets
    made = [key for key in DEMO if any(runs.glob(f"synthetic-{DATASETS[key].quality}_*"))]
    others = [name for name in datasets if name not in DEMO]
    return (*others, *(made or ["demo"]), *({"demo-c23"} & {*datasets} - {*made}))


def _key(name: str) -> str:
    key = f"table{name}" if name.isdigit() else name.lower().replace(" ", "")
    if key not in TABLES:
        raise TokdError(f"--table {name}: choose from {', '.join(TABLES)} (3 is table3)")
    return key


def _compared(runs: Path) -> StateOf:
    if not EXPERIMENTS.is_dir():
        return state_of
    looker = Looker(runs, checkpoints=False)

    def state(cell: GridCell, _: Path) -> tuple[str, tuple[str, ...]]:
        found = looker(cell)
        return found.kind, found.why

    return state


def _begun(reader: Reader, every: Sequence[PaperTable]) -> list[PaperTable]:
    """Return the tables that have results; if none has, all tables that have entries."""
    filled = [table for table in every if table.entries]
    sized = {"table1"} if reader.sizes() else set()
    begun = [
        table
        for table in filled
        if table.key in sized or any(reader.seeds(cell) for cell in table.cells)
    ]
    return begun or filled


def _write(report: Report, folder: Path, filled: bool) -> None:
    texts = {"report.md": markdown(report), "report.csv": long_frame(report).to_csv(index=False)}
    for table in report.tables:
        name, shown = f"tables/{table.table.key}.tex", table.filled() if filled else table
        if shown is None:
            (folder / name).unlink(missing_ok=True)
        else:
            texts[name] = latex(shown)
    if report.evaluated:
        texts["evaluations.csv"] = evaluations_frame(report.evaluated).to_csv(index=False)
    if report.pairs:
        texts["tables/both-rgb.tex"] = latex_pairs(report)
    for name, figure in report.figures.items():
        texts[f"figures/{name}.svg"] = figure.file()
        texts[f"figures/{name}-dark.svg"] = figure.file(dark=True)
    texts["report.html"] = html(report)
    for name, written in texts.items():
        write_text(folder / name, written)


def _print(report: Report, folder: Path, console: Console) -> None:
    for line in report.warnings:
        console.print(Text(f"warning: {line}"), soft_wrap=True)
    if report.synthetic:
        console.print(Text(report.synthetic))
    for table in report.tables:
        console.print(_table(table))
        for note in table.notes[: len(table.notes) - len(table.table.notes)]:
            console.print(Text(note))
    if report.pairs and any(pair.difference for pair in report.pairs):
        console.print(_verdicts(report))
    console.print(Text(text.progress(report)))
    for name in ("report.html", "report.md", "report.csv", "evaluations.csv", "tables", "figures"):
        if (folder / name).exists():
            console.print(Text(str(folder / name)), soft_wrap=True)


def _table(table: TableReport) -> Table | Text:
    """Return a table of the entries that have a number of ours, with a count of the others.

    Long tables for which the paper has no numbers are reduced to the count.
    """
    head = f"{table.heading}. {table.table.title}" if table.heading else table.table.title
    shown = _lines(head, "", "", "paper", "ours", "difference", "n")
    entries = [filled for filled in table.entries.values() if filled.state != CITED]
    missing = sum(filled.ours is None for filled in entries)
    compared = any(filled.entry.published is not None for filled in entries)
    if missing == len(entries) or (len(entries) > 13 and not compared):
        return Text(f"{head}: {len(entries) - missing} of {len(entries)} entries are filled\n")
    for filled in entries:
        if filled.ours:
            flags = "".join(f", {flag}" for flag in text.flags(filled))
            number = f"{filled.ours.n if filled.results else ''}{flags}"
            difference = "" if filled.difference is None else text.signed(filled.difference)
            entry = filled.entry
            line = (entry.row, entry.column, text.published(filled), text.ours(filled))
            shown.add_row(*map(Text, (*line, difference, number)))
    shown.caption = f"{missing} of {len(entries)} entries are empty" if missing else None
    return shown


def _verdicts(report: Report) -> Table:
    frame = verdicts_frame(report.pairs)
    shown = _lines("Both − RGB", *headers(frame))
    for key, values in records(frame):
        shown.add_row(*key, *values)
    return shown


def _lines(title: str, *heads: str) -> Table:
    shown = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.title_justify = shown.caption_justify = "left"
    for number, head in enumerate(heads):
        words = number < 2 and not heads[0]
        shown.add_column(
            head, justify="left" if words or not number else "right", no_wrap=not words
        )
    return shown
