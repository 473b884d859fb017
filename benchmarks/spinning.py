"""What calls take while other processes keep processors busy: ``python -m benchmarks.spinning``.

Two threads should never take much longer than one: a helper that does not get to run is not waited for.
"""

import subprocess
import sys
import time

import numpy as np

import vfe_fast as vf

_CALLS = 600


def main() -> None:
    mu = np.random.default_rng(1).normal(size=(100, 50)).astype(np.float32)
    print("microseconds a call, 100 x 50 latents, 50 samples: quartiles and mean")
    for n_spinning in range(3):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_spinning)]
        try:
            time.sleep(0.3)
            for n_threads in (1, 2):
                took = []
                for key in range(_CALLS):
                    begin = time.perf_counter()
                    vf.reparameterize(mu, mu - 1, 50, rng=key, num_threads=n_threads)
                    took.append(1e6 * (time.perf_counter() - begin))
                quartiles = " ".join(f"{q:5.0f}" for q in np.percentile(took, (25, 50, 75)))
                print(f"{n_spinning} spinning, {n_threads} threads: {quartiles}  {np.mean(took):5.0f}")
        finally:
            for process in busy:
                process.kill()


if __name__ == "__main__":
    main()
