"""Checks of an audit and its verdict: every rule in words, next to the value it was applied to."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tokd_lightning.audit.intervals import RESAMPLES
from tokd_lightning.audit.measured import SHORTCUT
from tokd_lightning.audit.sections import GROUP
from tokd_lightning.audit.stored import Stored
from tokd_lightning.metrics.classification import inverted

Section = dict[str, Any]
PASSED, FAILED, UNKNOWN = "passed", "failed", "not checked"
MARGIN = 0.05  # AUC beyond 50 % at which a score tells real from real
ENOUGH = 30  # videos of each class
ECE = 0.1
FAULT, CAVEAT = "fault", "caveat"


class Check(NamedTuple):
    """One check.

    Attributes:
        name: Short name.
        kind: ``fault`` (a failure makes the numbers untrustworthy) or ``caveat``.
        outcome: ``passed``, ``failed`` or ``not checked``.
        said: The value that decided, or why it was not checked.
        rule: When it passes.
    """

    name: str
    kind: str
    outcome: str
    said: str
    rule: str


class Verdict(NamedTuple):
    """The verdict.

    Attributes:
        text: In words.
        rule: Why this one.
    """

    text: str
    rule: str


def checks(stored: Stored, found: Section) -> list[Check]:
    """Apply all checks to the sections of an audit."""
    return [check(stored, found) for check in _CHECKS]


def verdict(made: Sequence[Check]) -> Verdict:
    """Return the first verdict whose condition holds, in the order of :data:`VERDICTS`."""
    by_name = {check.name: check for check in made}
    failed = [check for check in made if check.outcome == FAILED]
    faults = [check.name for check in failed if check.kind == FAULT]
    for holds, text, rule in VERDICTS:
        if holds(by_name, faults):
            caveats = [check.name for check in failed if check.kind == CAVEAT]
            if faults:
                text = f"{text}: {', '.join(faults)}"
            elif caveats := [name for name in caveats if name not in rule]:
                text = f"{text}. Caveats: {', '.join(caveats)}"
            return Verdict(f"{text}.", rule)
    raise AssertionError("the last verdict always holds")


def percent(value: float) -> str:
    """Format a fraction in percent, with one digit."""
    return f"{100 * value:.1f}"


def bounds(found: Section) -> str:
    """Format an interval: ``93.2 [91.0, 95.1] %``."""
    return f"{percent(found['value'])} [{percent(found['low'])}, {percent(found['high'])}] %"


_Holds = Callable[[dict[str, Check], list[str]], bool]


def _unknown(*names: str) -> _Holds:
    return lambda by_name, _: any(by_name[name].outcome == UNKNOWN for name in names)


def _failed(name: str) -> _Holds:
    return lambda by_name, _: by_name[name].outcome == FAILED


VERDICTS: tuple[tuple[_Holds, str, str], ...] = (
    (lambda _, faults: bool(faults), "Do not trust these numbers", "a check for faults failed"),
    (
        lambda by_name, _: by_name["ranking"].outcome != PASSED,
        "There is no evidence that it detects anything",
        "the check “ranking” did not pass",
    ),
    (
        _unknown("leaks", "duplicates", "shortcuts"),
        "The scores show no fault; the data were not checked",
        "“leaks”, “duplicates” or “shortcuts” need the data: tokd audit RUN --data DIR",
    ),
    (
        _unknown("elsewhere"),
        "It detects the forgeries of its own data; whether it holds elsewhere is not known",
        "“elsewhere” needs scores on other data: tokd evaluate RUN --on …",
    ),
    (
        _failed("elsewhere"),
        "It detects the forgeries of its own data and does not hold elsewhere",
        "the check “elsewhere” failed",
    ),
    (
        _unknown("baseline"),
        "It holds elsewhere; it was not compared with a linear probe",
        "“baseline” needs the data and a pretrained backbone: tokd audit RUN --data DIR --probe …",
    ),
    (
        _failed("baseline"),
        "It holds elsewhere, but a linear probe of a frozen backbone does as well",
        "the check “baseline” failed",
    ),
    (lambda *_: True, "No fault was found, and it holds elsewhere", "all checks for faults passed"),
)


def _inverted(stored: Stored, found: Section) -> Check:
    rule = "no AUC over videos is at most 35 % and 4 standard deviations of guessing below 50 %"
    said = [f"{one.name}: {line}" for one in stored.scored if (line := inverted(one.frames))]
    outcome = FAILED if said else PASSED
    return Check("labels", FAULT, outcome, "; ".join(said) or "none is far below 50 %", rule)


def _ranking(stored: Stored, found: Section) -> Check:
    rule = "the interval of the video AUC on the first data set is above 50 %"
    first = found["ranking"][0]
    value = first["video"]["auc"]
    if value is None:
        return Check("ranking", CAVEAT, UNKNOWN, f"{first['name']} has one class", rule)
    outcome = PASSED if value["low"] > 0.5 else FAILED
    return Check("ranking", CAVEAT, outcome, f"{first['name']}: {bounds(value)}", rule)


def _enough(stored: Stored, found: Section) -> Check:
    rule = f"the first data set has at least {ENOUGH} videos of each class"
    counts = found["ranking"][0]["counts"]
    real, fake = counts["real_videos"], counts["fake_videos"]
    outcome = PASSED if min(real, fake) >= ENOUGH else FAILED
    said = f"{real} real and {fake} fake videos"
    return Check("size of the test", CAVEAT, outcome, said, rule)


def _real_floor(stored: Stored, found: Section) -> Check:
    nothing = f"no two groups of {GROUP} real videos that differ in data set, quality or folder"
    rows = [row for row in found["real_floor"] if row["on"]]
    return _floor("real against real", FAULT, rows, nothing)


def _transfer(stored: Stored, found: Section) -> Check:
    nothing = f"no other data set with {GROUP} real videos"
    rows = [row for row in found["real_floor"] if not row["on"]]
    return _floor("reals elsewhere", CAVEAT, rows, nothing)


def _floor(name: str, kind: str, rows: list[Section], nothing: str) -> Check:
    low, high = percent(0.5 - MARGIN), percent(0.5 + MARGIN)
    between = "of one data set" if kind == FAULT else "of the first data set and of another"
    rule = f"no interval of the AUC between reals {between} is outside {low} to {high} %"
    rows = [row for row in rows if row["auc"]]
    if not rows:
        return Check(name, kind, UNKNOWN, nothing, rule)
    told = [row for row in rows if _outside(row["auc"], MARGIN)]
    worst = max(rows, key=lambda row: abs(row["auc"]["value"] - 0.5))
    shown = [_pair(row) for row in told or [worst]]
    return Check(name, kind, FAILED if told else PASSED, "; ".join(shown), rule)


def _pair(row: Section) -> str:
    on = f"{row['on']}, " if row["on"] else ""
    return f"{on}{row['a']} and {row['b']} ({row['kind']}): {bounds(row['auc'])}"


def _outside(value: Section, margin: float) -> bool:
    """Return whether an interval is entirely more than a margin from 50 %."""
    return bool(value["low"] > 0.5 + margin or value["high"] < 0.5 - margin)


def _elsewhere(stored: Stored, found: Section) -> Check:
    rule = "on every other data set, the interval of the video AUC is above 50 %"
    rows = [row for row in found["ranking"][1:] if row["video"]["auc"]]
    if not rows:
        return Check("elsewhere", CAVEAT, UNKNOWN, "no scores on another data set", rule)
    failed = [row for row in rows if row["video"]["auc"]["low"] <= 0.5]
    said = "; ".join(f"{row['name']}: {bounds(row['video']['auc'])}" for row in failed or rows)
    return Check("elsewhere", CAVEAT, FAILED if failed else PASSED, said, rule)


def _hardest(stored: Stored, found: Section) -> Check:
    rule = "for every forgery, the interval of the video AUC is above 50 %"
    rows = [row for row in found["forgeries"] if row["auc"]]
    if not rows:
        return Check("hardest forgery", CAVEAT, UNKNOWN, "no forgery with reals", rule)
    worst = min(rows, key=lambda row: (row["auc"]["low"], row["auc"]["value"]))
    seen = {True: "", False: ", not seen in training", None: ""}[worst["seen"]]
    said = f"{worst['method']} on {worst['on']}{seen}: {bounds(worst['auc'])}"
    return Check("hardest forgery", CAVEAT, PASSED if worst["auc"]["low"] > 0.5 else FAILED, said,
                 rule)  # fmt: skip


def _calibration(stored: Stored, found: Section) -> Check:
    rule = f"ECE of frames is at most {percent(ECE)} % after the temperature fitted on validation"
    told = found["calibration"]
    if told["temperature"] is None:
        return Check("calibration", CAVEAT, UNKNOWN, told["why"], rule)
    ece = told["rows"][0]["after"]["ece"]
    said = f"{percent(ece)} % at temperature {told['temperature']:.3g}"
    return Check("calibration", CAVEAT, PASSED if ece <= ECE else FAILED, said, rule)


def _of_data(name: str, key: str, kind: str, rule: str) -> Callable[[Stored, Section], Check]:
    """Make a check of a section that has ``outcome`` and ``said`` itself."""

    def check(stored: Stored, found: Section) -> Check:
        section = found[key]
        outcome = {None: UNKNOWN, True: PASSED, False: FAILED}[section["passed"]]
        return Check(name, kind, outcome, section["said"], rule)

    return check


_CHECKS: tuple[Callable[[Stored, Section], Check], ...] = (
    _inverted,
    _of_data(
        "leaks", "leaks", FAULT,
        "no video or person of the test, and no near copy of its frames, is in training",
    ),
    _of_data(
        "duplicates", "duplicates", FAULT,
        "no frame has the content of one of the other class",
    ),
    _of_data(
        "shortcuts", "shortcuts", FAULT,
        f"no measure of the files alone has an AUC whose interval is more than "
        f"{percent(SHORTCUT)} points from 50 %",
    ),
    _real_floor,
    _ranking,
    _hardest,
    _elsewhere,
    _transfer,
    _of_data(
        "baseline", "probe", CAVEAT,
        "the interval of the video AUC minus that of the linear probe is above 0",
    ),
    _calibration,
    _enough,
)  # fmt: skip


BOOTSTRAP = f"{RESAMPLES} resamples of whole videos within each forgery, percentiles 2.5 and 97.5"
