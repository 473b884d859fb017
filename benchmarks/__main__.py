"""``python -m benchmarks``: reads the command line before anything that starts threads is imported."""

import argparse
import importlib.util
import pkgutil
import sys

from . import __path__ as here
from . import threads


def main(argv: list[str]) -> int:
    found = sorted(m.name for m in pkgutil.iter_modules(here) if m.name.startswith("bench_"))
    names = [name.removeprefix("bench_") for name in found]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Times vfe_fast and every installed rival on the same work."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which benches (default: all): {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="few, small cases and short samples")
    parser.add_argument(
        "--threads", type=int, default=threads.available(), metavar="N", help="default: all cores"
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    parser.add_argument("--plot", metavar="FILE", help="draw a bar chart there (needs matplotlib)")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"no such bench: {', '.join(unknown)}; there are: {', '.join(names)}")
    if options.threads < 1:
        parser.error(f"--threads: expected N >= 1, got {options.threads}")
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot: needs matplotlib, `pip install matplotlib`")
    options.names = [name for name in names if name in options.names] or names

    threads.set_environment(options.threads)
    try:
        import vfe_fast.bench  # noqa: F401
    except ModuleNotFoundError as error:
        print(f"{error}: install it first, `pip install .` in the folder above this one", file=sys.stderr)
        return 1
    from .run import run

    return run(options)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
