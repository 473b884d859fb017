"""One run: peaks, cases, table, files."""

import importlib
import sys
import tomllib
from argparse import Namespace
from pathlib import Path

from vfe_fast import show_config
from vfe_fast.bench.harness import RATIO_NOTE, Row, format_peaks, format_table, measure, write_json

from . import rivals, roofline, threads


def run(options: Namespace) -> int:
    found = rivals.installed()
    threads.settle(options.threads)
    config = show_config("dict") or {}
    print(f"vfe_fast {config['version']}, instruction set {config['target']}, threads: {options.threads}")
    print("rivals: " + ", ".join(f"{name} {version}" for name, version in found.items()), end="\n\n")
    peaks = roofline.measure(options.threads, options.quick)
    print(format_peaks(peaks), end="\n\n", flush=True)

    benches = {name: importlib.import_module(f".bench_{name}", __package__) for name in options.names}
    goals = tomllib.loads(Path(__file__).with_name("goals.toml").read_text(encoding="utf-8"))
    rows: list[Row] = []
    interrupted = False
    try:
        for name, bench in benches.items():
            for case in bench.cases(options.threads, options.quick):
                print(f"{name}: {case.name} ...", file=sys.stderr, flush=True)
                goal = goals.get(name, {}).get(case.name, {})
                row = measure(
                    case,
                    threads=options.threads,
                    peaks=peaks,
                    goals=goal if isinstance(goal, dict) else {"ratio": goal},
                    quick=options.quick,
                )
                rows.append(row)
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted", file=sys.stderr)

    if rows:
        print(format_table(rows), end="\n\n")
        print("\n".join([*(bench.NOTE for bench in benches.values()), RATIO_NOTE]))
    if not (options.quick or interrupted):
        for name in benches:
            for case in goals.get(name, {}).keys() - {row.case for row in rows if row.bench == name}:
                print(f"goals.toml: {name} has no case {case!r}")
    if options.json is not None:
        write_json(rows, options.json)
    if options.plot is not None and rows:
        from .plot import bar_chart

        bar_chart(rows, options.plot)
    return 130 if interrupted else 0
