"""Library errors caused by a user's mistake, reworded in one line with command-line names."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

HINT = {"distiller": ": tokd methods lists those there are"}
_TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
_OURS = r"Union subtypes Subtypes: \[<class 'tokd_.*?Errors: (.*?) Expected a <class 'NoneType'>"
_LONGEST = 300


def one_line(message: str, known: Iterable[str] = ()) -> str:
    """Return the cause that jsonargparse spreads over several lines in one.

    The parser of a class's arguments knows only their short names. The outer parser receives its
    message nested in its own and inserts the full name: ``lr`` becomes ``--model.optimizer.lr``.

    Args:
        message: The raised message.
        known: Options of the parser that raised it, for suggesting the intended one.
    """
    lines = [line.strip(" -") for line in message.strip().splitlines() if line.strip()]
    text = " ".join(lines)
    if nested := re.search(_OURS, text):
        return _around(text, one_line(nested[1]))
    if unread := re.search(r'Parser key "([^"]+)": Config file loop detected: (\S+) ->', text):
        return f"{unread[1]}: {unread[2]} names no class that can be imported"
    if inside := re.search(
        r'Parser key "([^"]+)": Expected .*?Got value: NestedArg\(key=\'([^\']+)\'', text
    ):
        name = f"{inside[1]}.{inside[2]}"
        near = f" (did you mean {inside[2]}?)" if inside[2] in known else meant(inside[2], known)
        return f"unknown option '{name}'{near}: see tokd fit --help"
    if unknown := re.search(
        r'Parser key "([^"]+)": Expected a path but (\S+) either not accessible or invalid(.*)',
        text,
    ):
        return _no_class(*unknown.groups())
    if expected := re.findall(
        r'Parser key "([^"]+)": ?((?:Type|Expected)[^:]*?\. Got value:(?: (?:\[.*?\]|\S+))?)', text
    ):
        return f"{expected[-1][0]}: {_plain(expected[-1][1])}"
    if (union := re.search(r'Parser key "([^"]+)": (Does not validate .*)', text)) and (
        said := _of_union(union[2])
    ):
        return f"{union[1]}: {said}"
    if re.search(r"arguments are required: (\w+\.)?(data|model)\b", text) or re.search(
        r"tokd_lightning\.\S+ is abstract", text
    ):
        return "name an experiment: tokd fit --config experiments/….yaml"
    if absent := re.search(r'Parser key "config": .*?does not exist: (\S+)', text):
        return (
            f"--config: there is no file {absent[1]}, and no shipped experiment of that name: "
            "tokd init DIR copies the shipped ones"
        )
    if folder := re.search(r"Path is not a file: '([^']+)'", text):
        return f"--config: {folder[1]} is a folder; a run stands behind the command: tokd test RUN"
    if broken := re.search(r'(?:Problems parsing config|Parser key "config"): (.*)', text):
        return f"--config: not a readable YAML: {broken[1][:200]}"
    if text.startswith("Unexpected config"):
        return "--config: the file is no YAML of options, as experiments/*.yaml are"
    if given := re.match(r"unrecognized arguments: (\S+)", text):
        return (
            f"{text[:200]}{meant(given[1].partition('=')[0], known)}: see tokd fit --help; a .yaml "
            "belongs behind --config"
        )
    if "No supported gpu backend" in text:
        return "no GPU was found: leave --trainer.accelerator at auto, or set it to cpu"
    if match := re.search(r"unknown option '[^']+'.*", text):
        return match[0]
    if match := re.search(r"[Oo]ption '([^']+)'", text):
        name = match[1]
        return (
            f"unknown option '{name}'{meant(name, known)}, in a YAML or on the command line: see "
            "tokd fit --help"
        )
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def classes_in(message: str) -> str:
    """Return the names of the classes that jsonargparse quotes where none of a union is accepted.

    Args:
        message: The raised message.
    """
    if not message.startswith("Does not validate against"):
        return ""
    given = message.rpartition("Given value:")[2]
    return ", ".join(dict.fromkeys(re.findall(r"class_path='(?:\w+\.)*(\w+)'", given)))


def meant(name: str, known: Iterable[str]) -> str:
    """Return ``(did you mean …?)`` with the nearest name; empty if none is near."""
    names = sorted({option for option in known if option and option.strip("-")})
    head, dot, rest = name.partition(".")
    near = get_close_matches(name, names, 1, 0.75)
    if not near and dot:  # --dataa.size: --data is known, its sub-options are not
        near = [f"{found}.{rest}" for found in get_close_matches(head, names, 1, 0.75)]
    return f" (did you mean {near[0]}?)" if near and near[0] != name else ""


def _around(text: str, inner: str) -> str:
    """Replace an option's last part by its full name."""
    outer = re.search(r'Parser key "([^"]+)"', text)
    if outer is None:
        return inner
    name = f"--{outer[1]}"
    if given := re.search(r"Given value: NestedArg\(key='([^']+)'", text):
        whole = f"{name}.{given[1]}"
        last = given[1].rpartition(".")[2]
        before = whole[: -len(last)]
        if match := re.match(r"unknown option '([^']+)'(.*)", inner):
            rest = re.sub(r"\(did you mean ([^?]+)\?\)", rf"(did you mean {before}\1?)", match[2])
            if "." in match[1]:  # under an option that has no sub-options
                rest = re.sub(r"\(did you mean ([^?]+)\?\)", _sibling(whole, match[1]), match[2])
            return f"unknown option '{whole}'{rest}"
        return re.sub(r"^([\w.]+): ", lambda m: f"{_joined(whole, m[1])}: ", inner, count=1)
    if inner.startswith("unknown option '"):
        return inner.replace("in a YAML", f"in the {outer[1]} of a YAML", 1)
    if re.match(r"[\w.]+: ", inner) and not inner.startswith("Expected"):
        return f"{outer[1]}: {inner}"
    return f"{name}: {_plain(inner)}"


def _joined(whole: str, key: str) -> str:
    return whole if whole.endswith(f".{key}") else f"{whole.rpartition('.')[0]}.{key}"


def _sibling(whole: str, inner: str) -> str:
    return rf"(did you mean {whole[: -len(inner)]}\1?)"


def _no_class(key: str, value: str, why: str) -> str:
    if kind := re.search(r"to be a subclass of <class '(\w+)'>", why):
        return f"{key}: {value} is no {kind[1]}"
    if "Expected a <class 'list'>" in why:
        return f"{key}: {value} is neither a file nor a list: write [{value}], or a list in a YAML"
    return f"{key}: {value} is neither a file nor a class that can be imported{HINT.get(key, '')}"


def _of_union(text: str) -> str | None:
    kinds = re.search(
        r"Subtypes: \[(.*?)\] Errors: (.*?) Given value type: .*? Given value:(.*)", text
    )
    if kinds is None:
        return None
    value, reasons = kinds[3].strip()[:80] or "''", kinds[2]
    if named := re.search(r"Expected a dot import path string: (\S+)", reasons):
        return f"{named[1]} names no class that can be imported"
    if missing := re.search(r"(No module named '[^']+'|has no attribute '[^']+')", reasons):
        return f"{value}: {missing[1]}"
    if lacking := re.search(r"arguments are required: ([\w., ]+?)(?= Expected|$)", reasons):
        path = re.search(r"class_path='(?:\w+\.)*(\w+)'", kinds[3])
        return f"{path[1] if path else value} needs {lacking[1]}"
    names = re.findall(r"<class '([\w.]+)'>|(list)\[|(Literal)\[([^\]]*)\]", kinds[1])
    wanted = [
        _TYPES.get(a or b, (a or b).rpartition(".")[2]) for a, b, literal, _ in names if not literal
    ]
    wanted += [choices.replace("'", "") for *_, literal, choices in names if literal]
    return f"expected {' or '.join(wanted)}, not {value}" if wanted else None


def _plain(text: str) -> str:
    """Return the message with the expected type in plain words."""
    if match := re.match(
        r"Expected a <class 'collections\.abc\.Sequence'>\. Got value: (.*)", text
    ):
        return f"expected a list, as '[{match[1]}]'"
    if match := re.match(r"Expected a <class '(\w+)'>\. Got value:(.*)", text):
        value = match[2].strip()[:80] or "''"
        return f"expected {_TYPES.get(match[1], match[1])}, not {value}"
    if match := re.match(r"Expected a typing\.Literal\[(.*?)\]\. Got value: (.*)", text):
        return f"choose from {match[1].replace(chr(39), '')}, not {match[2][:80]}"
    if match := re.match(r"Expected a dot import path string: (\S+)", text):
        return f"{match[1]} names no class that can be imported"
    return text
