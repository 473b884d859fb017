"""The harness of the benchmarks: who is timed, and what is required of whom."""

import time
from typing import Any

from vfe_fast.bench.harness import NOT_OFFERED, Case, Peak, WrongAnswerError, format_table, measure


def case(**rivals: Any) -> Case:
    def check(answer: int) -> None:
        if answer != 7:
            raise WrongAnswerError(f"got {answer}")

    return Case("some", "work", lambda: 7, rivals, work=1.0, peak="adding", check=check)


def sleeping(answer: int = 7) -> int:
    time.sleep(0.002)
    return answer


def test_goals() -> None:
    """The least ratio to the fastest rival, to one by name, and the least share of a peak."""
    goals = {"ratio": 2.0, "slow": 3.0, "peak": 0.5, "absent": 1.0}
    peaks = {"adding": Peak(1e30, "flop")}
    row = measure(case(slow=sleeping), threads=1, peaks=peaks, goals=goals, quick=True)
    assert row.met == {"ratio": True, "slow": True, "peak": False}
    line = format_table([row]).splitlines()[1]
    assert line.endswith("2, slow 3, peak 0.5, absent 1  yes, yes, NO, -")


def test_rivals_that_are_wrong_are_not_timed() -> None:
    rivals = {"wrong": lambda: sleeping(8), "absent": NOT_OFFERED, "slow": sleeping}
    row = measure(case(**rivals), threads=1, peaks={}, quick=True)
    assert list(row.rivals_s) == ["slow"]
    assert row.skipped == {"wrong": "wrong answer: got 8", "absent": NOT_OFFERED}
    assert row.peak_fraction is None
    assert row.met == {}
