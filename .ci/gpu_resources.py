"""Holds the CUDA kernels to budgets of registers and local memory: gpu_resources.py LOG.

LOG is what nvcc prints with --resource-usage while it builds. Local memory, for spilled registers or for
arrays that are indexed by what is known only as the kernel runs, lies outside the chip; registers decide how
many threads a multiprocessor holds (65,536 over those of a thread), and there are 255 at most.
"""

import re
import subprocess
import sys

# Registers of kernels whose predicted speed (docs/performance.md) rests on how many fit a multiprocessor.
REGISTERS = {"DrawByMatrices": 176, "DrawByRows": 104, "FindFields": 128, "Fill": 40, "Read": 248}
MOST_REGISTERS = 255
# Kernels that may have local memory, in bytes of a thread's stack frame: to be mended when a GPU can tell
# what it costs.
STACK = {
    "Estimate<4, 4>": 688,  # weighted and unbiased cumulants of a block: arrays indexed by power
    "Estimate<8, 8>": 3056,
    "SumWeights<double, false, (RbmSums)2>": 32,  # the variance by exponentials
    "SumTiles<true, false>": 32,  # moments of an Ising model: 255 registers, 28 bytes too few
    "Backward<Concrete<float>, double>": 16,  # float64 exponentials for four numbers of a thread
    "LongRows<Concrete<float> >": 8,
}

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<gpu>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, "
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def kernels(log: str) -> list[tuple[str, str, int, int, int]]:
    """Name, GPU, registers, stack and spills of each kernel started by `launch`."""
    found = {(m["name"], m["gpu"]): m for m in ENTRY.finditer(log) if "run_kernel" in m["name"]}
    names = "\n".join(name for name, _ in found)
    plain = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout
    short = [
        re.sub(r"\(anonymous namespace\)::|vfe::\w+::|common::|void ", "", name)
        for name in plain.splitlines()
    ]
    short = [re.sub(r"^run_kernel<(.*?) ?>\(.*$", r"\1", name) for name in short]
    return sorted(
        (name, m["gpu"], int(m["registers"]), int(m["stack"]), int(m["stores"]) + int(m["loads"]))
        for name, m in zip(short, found.values(), strict=True)
    )


def main(log: str) -> int:
    """Print the table; 1 if a budget is exceeded, or nothing was found."""
    rows, bad = kernels(log), 0
    for name, gpu, registers, stack, spills in rows:
        kind = re.split(r"[<(]", name)[0]
        most, most_stack = REGISTERS.get(kind, MOST_REGISTERS), STACK.get(name, 0)
        exceeded = registers > most or stack > most_stack or (spills > 0 and name not in STACK)
        bad += exceeded
        print(
            f"{gpu}  registers {registers:3} of {most:3}  stack {stack} of {most_stack}  spilled {spills}  "
            f"{name}{'  <-- too much' if exceeded else ''}"
        )
    if not rows:
        print("no kernels in the log: was it built with --resource-usage?")
    return int(bad > 0 or not rows)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        sys.exit(main(file.read()))
