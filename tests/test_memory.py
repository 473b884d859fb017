"""What the exact sums take in memory beyond the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vfe_fast as vf


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("vf.BernoulliRBM(0.05 * rng.normal(size=(784, 22)), rng.normal(size=784), rng.normal(size=22))", 64),
        ("vf.Ising(0.1 - 0.1 * np.eye(33), rng.normal(size=33))", 1000),
    ],
)
def test_memory(model: str, most: int) -> None:
    """The most that ln Z takes beyond the model, in MB."""
    code = f"""
import re
import numpy as np
import vfe_fast as vf

def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1]) / 1024

rng = np.random.default_rng(0)
vf.free_energy.exact(vf.Ising(np.zeros((3, 3))))
np.ones((500, 500)) @ np.ones((500, 500))
model = {model}
before = peak()
vf.free_energy.exact(model)
print(peak() - before)
"""
    paths = [str(Path(vf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    assert float(done.stdout) < most, done.stdout
