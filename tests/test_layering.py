import ast
import subprocess
import sys
from pathlib import Path

import tokd_lightning

PACKAGE = Path(tokd_lightning.__file__).parent
# Room -> rooms it may import. Everyone may import errors.
ALLOWED = {
    "errors": set(),
    "wording": set(),
    "terminal": set(),
    "frequency": set(),
    "looks": set(),
    "naming": set(),
    "recipe": {"naming"},
    "identity": set(),
    "shipped": {"naming", "recipe"},
    "runs": {"naming"},
    "arguments": set(),
    "curves": set(),
    "loggers": {"curves", "naming", "runs", "wandb_run"},
    "wandb_account": set(),
    "wandb_run": {"naming", "runs", "wandb_account"},
    "dashboard": {"runs", "tables", "wandb_account"},
    "console": {"wording"},
    "launch": {"loggers", "modules", "step"},
    "step": set(),
    "shorthand": {"distillation", "recipe"},
    "precision": {"naming"},
    "provenance": {"data", "naming"},
    "trainer_options": {"data", "naming"},
    "checks": {"console", "data", "identity", "modules", "naming", "provenance", "runs"},
    "pictures": {"data", "frequency", "models", "modules"},
    "results": {"data", "evaluation", "models", "modules", "runs"},
    "models": {"frequency"},
    "distillation": {"models", "terminal"},
    "data": {"frequency", "terminal"},
    "evaluation": {"looks"},
    "modules": {"distillation", "models", "evaluation"},
    "tables": {"identity", "looks", "naming", "provenance", "recipe", "runs", "shipped"},
    "training": {
        "arguments",
        "modules",
        "distillation",
        "models",
        "data",
        "evaluation",
        "identity",
        "naming",
        "recipe",
        "runs",
        "shipped",
        "launch",
        "loggers",
        "console",
        "results",
        "checks",
        "trainer_options",
        "pictures",
        "precision",
        "provenance",
        "shorthand",
        "wandb_run",
    },
    "inputs": {"console", "data", "modules", "training"},
    "probe": {"commands", "console", "runs", "training"},
    "sizes": {"models", "provenance", "runs"},
    "evaluate": {
        "modules",
        "data",
        "evaluation",
        "tables",
        "naming",
        "runs",
        "loggers",
        "console",
        "results",
        "provenance",
    },
    "deploy": {
        "data",
        "evaluate",
        "evaluation",
        "models",
        "modules",
        "naming",
        "provenance",
        "runs",
    },
    "explain": {
        "looks",
        "console",
        "data",
        "evaluate",
        "evaluation",
        "frequency",
        "models",
        "naming",
        "pictures",
        "runs",
        "tables",
        "wandb_run",
    },
    "commands": {
        "dashboard",
        "data",
        "deploy",
        "distillation",
        "evaluate",
        "explain",
        "sizes",
        "tables",
    },
    "cli": {"commands", "inputs", "probe", "training"},
    "__main__": {"cli"},
    "__init__": set(),
}
BARRED = {
    "models": {"lightning", "wandb", "pandas"},
    "distillation": {"lightning", "wandb", "pandas"},
    "frequency": {"lightning", "wandb", "pandas"},
    "data": {"timm", "wandb"},
    "tables": {"torch", "lightning", "wandb", "submitit"},
    "dashboard": {"torch", "lightning"},
    "wandb_account": {"torch", "lightning", "wandb", "pandas"},
    "deploy": {"lightning", "wandb", "timm"},
    "explain": {"lightning", "wandb", "timm"},
    "naming": {"torch", "lightning", "wandb", "pandas"},
    "recipe": {"torch", "lightning", "wandb", "pandas"},
    "runs": {"torch", "lightning", "wandb", "pandas"},
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
                assert parts[1] in ALLOWED[here] | {here, "errors"}, f"{path}: {name}"
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
