"""What exact sums and chains take in memory beyond the model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vfe_fast as vf

BEGIN = """
import re
import numpy as np
import vfe_fast as vf

def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+)", file.read())[1]) / 1024

rng = np.random.default_rng(0)
"""


def run(code: str) -> float:
    """The number that the code prints at its end, in a process of its own."""
    paths = [str(Path(vf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


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
    taken = run(f"""
vf.free_energy.exact(vf.Ising(np.zeros((3, 3))))
np.ones((500, 500)) @ np.ones((500, 500))
model = {model}
before = peak()
vf.free_energy.exact(model)
print(peak() - before)
""")
    assert taken < most


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("what", ["chains", "cd", "pcd", "fpcd"])
def test_chains_take_bits(what: str) -> None:
    """MB beyond the model: 200,000 chains are 21 of visible bits; as float32 630, 128 hidden means 100."""
    do = {
        "chains": "chains = vf.GibbsChains(rbm, 200_000, rng=0); chains.step(2)",
        "cd": "vf.train(rbm, v, method='cd', **how)",
        "pcd": "vf.train(rbm, v, method='pcd', n_chains=200_000, **how)",
        "fpcd": "vf.train(rbm, v, method='fpcd', n_chains=200_000, **how)",
    }
    taken = run(f"""
parameters = 0.05 * rng.normal(size=(784, 128)), np.zeros(784), np.zeros(128)
rbm = vf.BernoulliRBM(*(p.astype(np.float32) for p in parameters))
vf.GibbsChains(rbm, 100, rng=0).step(2)
v = np.zeros((200_000, 784), np.uint8)
v[::3, ::5] = 1
how = dict(batch_size=200_000, n_epochs=1, centered=False, rng=0)
before = peak()
{do[what]}
print(peak() - before)
""")
    assert taken < (140 if what == "fpcd" else 220), taken  # fpcd: 90, with hidden means of all states 200
