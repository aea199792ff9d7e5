import ast
import subprocess
import sys
from pathlib import Path

import tokd_lightning

PACKAGE = Path(tokd_lightning.__file__).parent
EVERYWHERE = {"errors", "files", "lightning_internals"}
# Room -> rooms it may import in addition to those of EVERYWHERE.
ALLOWED = {
    "errors": set(),
    "extras": set(),
    "files": set(),
    "lightning_internals": set(),
    "frequency": set(),
    "looks": set(),
    "metrics": set(),
    "terminal": set(),
    "models": {"frequency", "terminal"},
    "distillation": {"models", "terminal"},
    "modules": {"distillation", "metrics", "models", "runs"},
    "data": {"terminal"},
    "demo": {"data"},
    "prepare": {"data", "terminal"},
    "show": {"data", "frequency", "terminal"},
    "verify": {"data", "terminal"},
    "runs": {"data"},
    "loggers": {"runs"},
    "training": {
        "data", "distillation", "frequency", "loggers", "metrics", "models", "modules", "runs",
        "terminal",
    },
    "tables": {"runs"},
    "audit": {"data", "metrics", "models", "report", "runs", "tables"},
    "evaluation": {
        "audit", "data", "loggers", "looks", "metrics", "models", "modules", "runs", "tables",
        "training",
    },
    "report": {"loggers", "looks", "runs", "tables"},
    "schedule": {"report", "runs", "tables"},
    "explain": {
        "data", "evaluation", "frequency", "loggers", "looks", "metrics", "models", "report",
        "runs", "training",
    },
    "deploy": {
        "audit", "data", "evaluation", "metrics", "models", "modules", "prepare", "runs",
        "terminal", "extras",
    },
    "commands": {
        "audit", "demo", "deploy", "distillation", "evaluation", "explain", "models", "prepare",
        "report", "schedule", "show", "terminal", "training", "verify", "extras", "runs",
    },
    "cli": {"commands", "extras", "training"},
    "__main__": {"cli"},
    "__init__": {"deploy"},
}  # fmt: skip
# Room -> packages that it may not import.
BARRED = {
    "models": {"lightning", "wandb", "pandas"},
    "distillation": {"lightning", "wandb", "pandas"},
    "frequency": {"lightning", "wandb", "pandas"},
    "metrics": {"torch", "lightning", "wandb"},
    "data": {"timm", "wandb"},
    "tables": {"torch", "lightning", "wandb", "submitit"},
    "report": {"torch", "lightning"},
    "schedule": {"torch", "lightning", "wandb", "submitit"},
    "deploy": {"lightning", "wandb", "timm"},
    "explain": {"lightning", "wandb", "timm"},
    "runs": {"torch", "lightning", "wandb", "pandas"},
    "commands": {"torch", "lightning", "wandb", "pandas"},
}


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_arrows_run_one_way():
    for path in FILES:
        here = room(path)
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "tokd_lightning" and parts[1] != "__version__":
                assert parts[1] in ALLOWED[here] | {
                    here,
                    "errors",
                    "files",
                    "lightning_internals",
                }, f"{path}: {name}"
            assert parts[0] not in BARRED.get(here, set()), f"{path}: {name}"


def test_files_stay_short():
    long = {str(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 420}
    assert not long


def test_help_needs_neither_torch_nor_lightning():
    code = (
        "import sys; from tokd_lightning.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'lightning', 'pandas', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_listing_a_table_needs_neither_torch_nor_submitit():
    code = (
        "import sys; from tokd_lightning.cli import main\n"
        "assert main(['table', '3', '--dry-run']) == 0\n"
        "assert not {'torch', 'lightning', 'pandas', 'submitit'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, capture_output=True, cwd=PACKAGE.parent)
