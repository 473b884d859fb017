"""The harness: everybody does the same work, is warm, answers rightly, and is timed in turn."""

from __future__ import annotations

import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "NOT_OFFERED",
    "RATIO_NOTE",
    "Call",
    "Case",
    "Maker",
    "NotOfferedError",
    "Peak",
    "Row",
    "WrongAnswerError",
    "best_rate",
    "fastest",
    "format_peaks",
    "format_table",
    "made",
    "measure",
    "reason",
    "verified",
    "write_json",
]

Call = Callable[[], Any]
Maker = Callable[..., Call]  # takes a model and the sizes of the work, returns what is timed

NOT_OFFERED = "does not offer it"
RATIO_NOTE = "ratio: time of the fastest rival over ours; above 1, ours is faster."

_PAUSE = 0.03  # seconds between two libraries: the threads of the one before stop spinning
_LONG_ROUND = 5.0  # seconds: longer rounds are repeated three times only


class WrongAnswerError(Exception):
    """What was to be timed does not compute the right thing."""


class NotOfferedError(Exception):
    """A rival has no function for this work."""


@dataclass(frozen=True)
class Case:
    """One piece of work, done by this package and by others.

    Attributes
    ----------
    bench, name : str
        The bench it belongs to, and what sets it apart there.
    ours : callable
        Does the work once and returns the answer.
    rivals : mapping of str to callable or str
        The same work by others; a string says why a rival cannot be run.
    work : float
        Operations in one call, in the unit of `peak`.
    peak : str
        Name of the peak to hold the rate against.
    repeats : int
        Units of work in one call, such as steps. Times are reported for one of them.
    check : callable
        Takes an answer; raises `WrongAnswerError` if it is not right.
    """

    bench: str
    name: str
    ours: Call
    rivals: Mapping[str, Call | str]
    work: float
    peak: str
    repeats: int = 1
    check: Callable[[Any], None] = lambda answer: None


@dataclass(frozen=True)
class Row:
    """What was measured of a `Case`.

    Attributes
    ----------
    bench, case : str
        As in the case.
    threads : int
        Threads everybody was given.
    ours_s : float
        Median seconds for one unit of work.
    rivals_s : dict of str to float
        The same for each rival that could be timed.
    ratio : float or None
        Time of the fastest rival over ours: above 1, ours is faster.
    peak_fraction : float or None
        Rate of ours over the peak.
    goals : dict of str to float
        What is required: the least ``"ratio"``, the least fraction of the ``"peak"``, or the least time of a
        rival, by its name, over ours.
    met : dict of str to bool
        Whether each of these that could be measured is reached.
    peak : str
        Name of the peak.
    skipped : dict of str to str
        Rivals that were not timed, and why.
    """

    bench: str
    case: str
    threads: int
    ours_s: float
    rivals_s: dict[str, float]
    ratio: float | None
    peak_fraction: float | None
    goals: dict[str, float]
    met: dict[str, bool]
    peak: str = ""
    skipped: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as it stands in JSON files."""
        return {name: value for name, value in vars(self).items() if name not in ("peak", "skipped")}


@dataclass(frozen=True)
class Peak:
    """A limit of this machine: `rate` in `unit` a second, and where it comes from."""

    rate: float
    unit: str
    source: str = ""


def measure(
    case: Case,
    *,
    threads: int,
    peaks: Mapping[str, Peak],
    goals: Mapping[str, float] | None = None,
    quick: bool = False,
) -> Row:
    """Time a case: everybody warmed up and checked, then in turn, round after round.

    Parameters
    ----------
    case : Case
        What to time.
    threads : int
        Threads everybody was given; only noted.
    peaks : mapping of str to Peak
        Peaks of this machine, for the fraction reached.
    goals : mapping of str to float, optional
        What is required, as in `Row`.
    quick : bool
        Fewer rounds of shorter samples.

    Returns
    -------
    Row
        Medians over the rounds. A rival that raises or answers wrongly is in `skipped`, with the reason.

    Raises
    ------
    WrongAnswerError
        If our own answer is wrong.
    """
    skipped = {name: call for name, call in case.rivals.items() if isinstance(call, str)}
    calls = {name: call for name, call in case.rivals.items() if not isinstance(call, str)}
    least = 0.005 if quick else 0.05
    repetitions = {"": _warm_up(case.ours, case.check, least)}
    for name, call in list(calls.items()):
        try:
            repetitions[name] = _warm_up(call, case.check, least)
        except Exception as error:
            skipped[name] = reason(error)
            del calls[name]
    everybody = {"": case.ours, **calls}
    samples: dict[str, list[float]] = {name: [] for name in everybody}
    rounds = 3 if quick else 7
    done = 0
    while done < rounds:
        for name, call in everybody.items():
            time.sleep(_PAUSE)
            samples[name].append(seconds_of(call, repetitions[name]))
        done += 1
        if sum(repetitions[name] * times[0] for name, times in samples.items()) > _LONG_ROUND:
            rounds = 3
    medians = {name: statistics.median(times) / case.repeats for name, times in samples.items()}
    ours = medians.pop("")
    ratio = min(medians.values()) / ours if medians else None
    peak = peaks.get(case.peak)
    fraction = case.work / case.repeats / ours / peak.rate if peak else None
    found = {name: seconds / ours for name, seconds in medians.items()} | {"ratio": ratio, "peak": fraction}
    goals = dict(goals or {})
    return Row(
        bench=case.bench,
        case=case.name,
        threads=threads,
        ours_s=ours,
        rivals_s=medians,
        ratio=ratio,
        peak_fraction=fraction,
        goals=goals,
        met={name: value >= goals[name] for name in goals if (value := found.get(name)) is not None},
        peak=case.peak,
        skipped=skipped,
    )


def reason(error: BaseException) -> str:
    """Say in one line why a rival is not timed.

    Parameters
    ----------
    error : Exception
        What it raised.

    Returns
    -------
    str
        `NOT_OFFERED`, ``"wrong answer: …"`` or ``"failed: …"``.
    """
    if isinstance(error, NotOfferedError):
        return NOT_OFFERED
    kind = "wrong answer" if isinstance(error, WrongAnswerError) else f"failed: {type(error).__name__}"
    text = str(error).strip()
    return f"{kind}: {text.splitlines()[0]}" if text else kind


def _warm_up(call: Call, check: Callable[[Any], None], least: float) -> int:
    """Call once, check the answer, and return how many calls make a sample of `least` seconds."""
    begin = time.perf_counter()
    check(call())
    seconds = time.perf_counter() - begin
    if seconds < 10.0:  # the first call may have compiled something
        seconds = seconds_of(call, 1)
    return max(1, math.ceil(least / max(seconds, 1e-7)))


def seconds_of(call: Call, repetitions: int) -> float:
    begin = time.perf_counter()
    for _ in range(repetitions):
        call()
    return (time.perf_counter() - begin) / repetitions


def format_table(rows: Sequence[Row]) -> str:
    """Return the aligned table of `rows`, and a line for each rival that was not timed."""
    rivals = sorted({name for row in rows for name in (*row.rivals_s, *row.skipped)})
    head = ["case", "ours", *rivals, "ratio", "of peak", "peak", "goal", "met"]
    lines = [head]
    for row in rows:
        times = [
            _time(row.rivals_s[name]) if name in row.rivals_s else _short(row.skipped.get(name, "-"))
            for name in rivals
        ]
        lines.append(
            [
                f"{row.bench}: {row.case}",
                _time(row.ours_s),
                *times,
                "-" if row.ratio is None else f"{row.ratio:.2f}",
                "-" if row.peak_fraction is None else f"{row.peak_fraction:.3f}",
                row.peak,
                ", ".join(f"{name} {goal:g}".removeprefix("ratio ") for name, goal in row.goals.items())
                or "-",
                ", ".join({True: "yes", False: "NO", None: "-"}[row.met.get(name)] for name in row.goals)
                or "-",
            ]
        )
    return "\n".join([_align(lines), *_notes(rows)])


def _notes(rows: Sequence[Row]) -> list[str]:
    """List why rivals were not timed: once if the reason is the same in every case of a bench."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for name, why in row.skipped.items():
            cases.setdefault((row.bench, name, why), []).append(row.case)
    notes = []
    for (bench, name, why), where in cases.items():
        everywhere = len(where) == sum(row.bench == bench for row in rows)
        notes.append(f"{name} in {bench}{'' if everywhere else ' (' + '; '.join(where) + ')'}: {why}")
    return notes


def format_peaks(peaks: Mapping[str, Peak]) -> str:
    """Return the aligned list of peaks."""
    lines = [[name, _scaled(peak.rate, peak.unit + "/s"), peak.source] for name, peak in peaks.items()]
    return _align(lines)


def write_json(rows: Iterable[Row], path: str) -> None:
    """Write `rows` to a file, as a list of objects."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump([row.as_json() for row in rows], file, indent=1)
        file.write("\n")


def _align(lines: Sequence[Sequence[str]]) -> str:
    """Put words in columns; the first one to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]).rstrip() for line in lines
    )


def _short(why: str) -> str:
    """Return what fits in the table; the rest of the reason stands in the notes."""
    return "-" if why == NOT_OFFERED else why.partition(":")[0]


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{_three_digits(seconds / size)} {unit}"
    return f"{_three_digits(seconds / 1e-9)} ns"


def _scaled(rate: float, unit: str) -> str:
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if rate >= size:
            return f"{_three_digits(rate / size)} {prefix}{unit}"
    return f"{_three_digits(rate)} {unit}"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def fastest(calls: Sequence[Call], rounds: int = 15) -> Call:
    """Of several ways to do the same, that with the best time; a way that fails is out.

    Parameters
    ----------
    calls : sequence of callable
        The ways.
    rounds : int
        Calls of each that are timed.

    Returns
    -------
    callable
    """
    best: list[float] = []
    failure = None
    for call in calls:
        try:
            for _ in range(min(3, rounds)):
                call()
            best.append(min(seconds_of(call, 1) for _ in range(rounds)))
        except Exception as error:
            best.append(math.inf)
            failure = error
    if failure is not None and min(best) == math.inf:
        raise failure
    return calls[best.index(min(best))]


def best_rate(call: Call, work: float, seconds: float) -> float:
    """Work a second of the fastest of several calls.

    Parameters
    ----------
    call : callable
        What to time.
    work : float
        Operations in a call.
    seconds : float
        For how long to repeat it.

    Returns
    -------
    float
        Operations a second.
    """
    call()
    fastest = math.inf
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        fastest = min(fastest, seconds_of(call, 1))
    return work / fastest


def verified(makers: Mapping[str, Maker | str], verify: Callable[[Maker], None]) -> dict[str, Maker | str]:
    """Replace each maker that fails `verify` by the reason; a maker is tried once in a process."""
    return {
        name: maker if isinstance(maker, str) else _verdict(maker, verify) or maker
        for name, maker in makers.items()
    }


@functools.cache
def _verdict(maker: Maker, verify: Callable[[Maker], None]) -> str | None:
    try:
        verify(maker)
    except Exception as error:
        return reason(error)
    return None


def made(makers: Mapping[str, Maker | str], *model: Any, **work: Any) -> dict[str, Call | str]:
    """Make what is timed; a maker that raises leaves the reason."""
    calls: dict[str, Call | str] = {}
    for name, maker in makers.items():
        try:
            calls[name] = maker if isinstance(maker, str) else maker(*model, **work)
        except Exception as error:
            calls[name] = reason(error)
    return calls
