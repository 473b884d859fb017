#!/usr/bin/env bash
# What a GPU says of the CUDA twins: gpu_check.sh OUT. Builds the package for the GPU at hand in a fresh environment, runs the
# tests there and under compute-sanitizer, and times them; about 8 minutes with 8 cores. The report is in OUT: report.txt,
# gpu.json, a log a step. It ends with 0 if all went well, or if there is nothing to run on.
set -uo pipefail
[ $# -eq 1 ] || { echo "usage: $0 OUT"; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
report="$out/report.txt"
: >"$report"
say() { echo "$*" | tee -a "$report"; }
failed=0

# step NAME SECONDS COMMAND...: runs it with its output in OUT/NAME.log, and puts the last lines into the report.
step() {
  local name=$1 most=$2 begin=$SECONDS status=0
  shift 2
  timeout "$most" "$@" >"$out/$name.log" 2>&1 || status=$?
  say "" && say "== $name: $([ $status = 0 ] && echo passed || echo "FAILED (status $status)"), $((SECONDS - begin)) s"
  tail -5 "$out/$name.log" | tee -a "$report"
  [ $status = 0 ] || failed=1
  return $status
}

say "vfe_fast $(git rev-parse --short HEAD 2>/dev/null || echo 'of unknown commit'), $(date -u +%Y-%m-%dT%H:%MZ)"
if ! gpu=$(nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader 2>/dev/null) ||
  [ -z "$gpu" ]; then
  say "no GPU here (nvidia-smi finds none): nothing was checked"
  exit 0
fi
say "$gpu"
if ! nvcc=$(command -v "${CUDACXX:-nvcc}"); then
  say "no nvcc here (PATH, CUDACXX): nothing was checked"
  exit 0
fi
say "$("$nvcc" --version | grep release)"
architecture=$(echo "$gpu" | head -1 | cut -d, -f2 | tr -d ' .')

# The packages of this Python are seen, too, so that machines without a network can do with what is installed.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --system-site-packages "$work/venv"
. "$work/venv/bin/activate"
has() { python -c "import $1" 2>/dev/null; }
isolation=()
has pybind11 && has scikit_build_core && isolation=(--no-build-isolation)
extra="[test]"
has pytest && has mpmath && has scipy && extra=""
step build 400 pip install -v "${isolation[@]}" -Ccmake.define.VFE_CUDA=ON -Ccmake.define.VFE_CUDA_ON_HOST=OFF \
  -Ccmake.define.VFE_CUDA_ARCHITECTURES="$architecture" -Ccmake.define.CMAKE_CUDA_FLAGS=--resource-usage ".$extra" ||
  { say "nothing else can be done without it"; exit 1; }

# From elsewhere, so that the installed package is meant.
cp -r tests docs src benchmarks README.md pyproject.toml CMakeLists.txt "$work/"
cd "$work"
export VFE_REQUIRE_GPU=1 PYTHONPATH="$work"
step twins 120 python -m pytest -q -p no:cacheprovider -k "cuda and not cuda-on-host" tests/twins
step kernels 120 python -m pytest -q -p no:cacheprovider -m twin -k "cuda and not cuda-on-host" tests

if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "$tool" 90 compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
      python -m pytest -q -p no:cacheprovider -x -k "cuda and not cuda-on-host" tests/twins
  done
else
  say "" && say "== compute-sanitizer is not installed: memory and races were not checked"
fi

step gpu 150 python -m benchmarks.gpu --json "$out/gpu.json"
say "" && say "$([ $failed = 0 ] && echo 'all passed' || echo 'SOMETHING FAILED, see above'), $SECONDS s; in $out"
exit $failed
