#!/usr/bin/env bash
# What a GPU says of the CUDA twins: gpu_check.sh OUT [STAGE...].
#
#   build      the package for the GPU at hand, by CMake alone, in build/gpu_check; what ptxas says of its registers
#   tests      tests/twins, a process a file
#   benches    benchmarks/gpu.py, a process a case
#   memcheck, racecheck   compute-sanitizer over tests/twins
#   kernels    the tests of the kernels themselves, larger cases
#
# All of them in this order by default, in less than 8 minutes with 8 cores; what has been built can be used again.
# Nothing is fetched: this Python (PYTHON, else python3) needs NumPy, pybind11, pytest, SciPy and mpmath, on PYTHONPATH if
# they are not installed; CMake and a C++ compiler; nvcc. PyTorch, CuPy, JAX and compute-sanitizer are used if present.
#
# OUT gets report.txt, line by line, gpu.json and a log a stage. A part that fails or takes too long does not stop the rest.
# VFE_SECONDS (470) is the time for all. Ends with 0 if all went well, or if there is no GPU.
set -uo pipefail
stages=(build tests benches memcheck racecheck kernels)
usage() { echo "usage: $0 OUT [STAGE...], stages: ${stages[*]}" >&2; exit 2; }
[ $# -ge 1 ] || usage
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
shift
for stage in "$@"; do [[ " ${stages[*]} " == *" $stage "* ]] || usage; done
alone=$#
[ $# -eq 0 ] || stages=("$@")

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 2
work="$root/build/gpu_check" report="$out/report.txt" python=${PYTHON:-python3}
end=${VFE_SECONDS:-470} stage_end=$end failed=0
say() { echo "$*" | tee -a "$report"; }

# part STAGE NAME SECONDS COMMAND...: with its output in OUT/STAGE.log; how it ended, and why if it failed, in the report.
part() {
  local log="$out/$1.log" name=$2 most=$3 begin=$SECONDS status=0 left=$((stage_end - SECONDS))
  shift 3
  if [ "$left" -lt 5 ]; then
    say "$name: NOT RUN, no time left"
    failed=1
    return 1
  fi
  printf '\n=== %s: %s\n' "$name" "$*" >>"$log"
  local lines
  lines=$(wc -l <"$log")
  timeout -s INT -k 5 $((most < left ? most : left)) "$@" >>"$log" 2>&1 </dev/null || status=$?
  case $status in
    0) say "$name: passed, $((SECONDS - begin)) s: $(tail -n +$((lines + 1)) "$log" | grep . | tail -n 1)" ;;
    124 | 137) say "$name: STOPPED after $((SECONDS - begin)) s" ;;
    *) say "$name: FAILED ($status), $((SECONDS - begin)) s" ;;
  esac
  [ "$status" = 0 ] && return
  failed=1
  tail -n +$((lines + 1)) "$log" | grep -E '^(FAILED|ERROR|E  )|[Ee]rror( at|:)|version|SUMMARY|passed|failed' | tail -n 8 |
    cut -c 1-300 | sed 's/^/    /' | tee -a "$report"
  return "$status"
}

# The first of these commands that there is.
first_of() {
  local command
  for command in "$@"; do command -v "$command" && return; done
  return 1
}

nothing() {
  say "$*: nothing was checked"
  exit "${VFE_REQUIRE_GPU:-0}"
}

say "=== vfe_fast $(git rev-parse --short HEAD 2>/dev/null || echo 'of unknown commit'), $(date -u +%Y-%m-%dT%H:%MZ): ${stages[*]}"
gpu=$(nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader 2>/dev/null) && [ -n "$gpu" ] ||
  nothing "no GPU here (nvidia-smi finds none)"
say "$gpu"
architecture=$(head -n 1 <<<"$gpu" | cut -d , -f 2 | tr -d ' .')

build() {
  local nvcc pybind11 generator=()
  rm -rf "$work/site"
  nvcc=$(first_of "${CUDACXX:-nvcc}" /usr/local/cuda/bin/nvcc) || nothing "no nvcc here (CUDACXX, PATH, /usr/local/cuda)"
  export CUDACXX=$nvcc
  say "$("$nvcc" --version | grep release), $("$python" --version), $(nproc) cores"
  pybind11=$("$python" -m pybind11 --cmakedir) || nothing "$python has no pybind11"
  command -v ninja >/dev/null && generator=(-G Ninja)
  part build configure 60 cmake -S . -B "$work/cmake" "${generator[@]}" -DPython_EXECUTABLE="$(command -v "$python")" \
    -Dpybind11_DIR="$pybind11" -DVFE_CUDA=ON -DVFE_CUDA_ON_HOST=OFF -DVFE_CUDA_ARCHITECTURES="$architecture" \
    -DCMAKE_CUDA_FLAGS=--resource-usage || return
  part build compile 330 cmake --build "$work/cmake" --target _core -j "$(nproc)" || return
  mkdir -p "$work/site" && cp -r python/vfe_fast "$work/site/" || return
  rm -f "$work"/site/vfe_fast/_core*.so && cp "$work"/cmake/_core*.so "$work/site/vfe_fast/" || return
  part build import 60 "$python" -c "import vfe_fast as vf; vf.show_config(); c = vf.show_config('dict')
assert not c['cuda_problem'], c['cuda_problem']
print(c['cuda_devices'], 'driver', c['cuda_driver'], 'toolkit', c['cuda_toolkit'], 'code for', c['cuda_architectures'])"
  [ ! -e .ci/gpu_resources.py ] || part build registers 60 "$python" .ci/gpu_resources.py "$out/build.log"
}

# pytest_part STAGE SECONDS FILE [COMMAND...]: the tests of a file that run on the GPU, under a command if one is given.
# Warnings of other versions of NumPy and plugins that happen to be installed say nothing of a GPU.
pytest_part() {
  local stage=$1 most=$2 file=$3
  shift 3
  part "$stage" "$stage $(basename "$file" .py)" "$most" "$@" "$python" -m pytest -q -p no:cacheprovider -W default \
    --tb=short -k "cuda and not cuda-on-host" "$file"
}

tests() { for file in tests/twins/test_*.py; do pytest_part tests 60 "$file"; done; }

benches() {
  local names
  names=$("$python" -m benchmarks.gpu --list) || { say "benchmarks.gpu cannot be imported"; failed=1; return; }
  for name in $names; do
    part benches "bench $name" 75 "$python" -m benchmarks.gpu "$name" --json "$out/gpu.json"
    grep "^$name: " "$out/benches.log" | sed 's/^/    /' | tee -a "$report"
  done
}

# Each array in memory of its own; without what is made to run out of it.
sanitize() {
  local sanitizer
  sanitizer=$(first_of compute-sanitizer /usr/local/cuda/bin/compute-sanitizer) ||
    { say "compute-sanitizer is not installed: $1 was not run"; return; }
  for file in tests/twins/test_*.py; do
    VFE_CUDA_CACHE=0 PYTEST_ADDOPTS="--deselect tests/twins/test_device_arrays.py::test_out_of_memory_is_an_error_and_no_more" \
      pytest_part "$1" 60 "$file" "$sanitizer" --tool "$1" --error-exitcode 9 --target-processes all
  done
}
memcheck() { sanitize memcheck; }
racecheck() { sanitize racecheck; }

kernels() {
  while read -r file; do
    PYTEST_ADDOPTS="-m twin" pytest_part kernels 60 "$file"
  done < <(grep -l 'mark\.twin' tests/test_*.py)
}

export VFE_REQUIRE_GPU=1 PYTHONPATH="$work/site:$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
declare -A seconds=([build]=$end [tests]=120 [benches]=200 [memcheck]=80 [racecheck]=80 [kernels]=$end)
for stage in "${stages[@]}"; do
  say "" && say "== $stage (at $SECONDS s)"
  : >"$out/$stage.log"
  stage_end=$((SECONDS + seconds[$stage]))
  [ "$stage_end" -lt "$end" ] && [ "$alone" -ne 1 ] || stage_end=$end
  "$stage"
  if [ "$stage" = build ] && ! compgen -G "$work/site/vfe_fast/_core*.so" >/dev/null; then
    say "nothing else can be done without it"
    exit 1
  fi
done
say "" && say "$([ $failed = 0 ] && echo 'all passed' || echo 'SOMETHING FAILED, see above'), $SECONDS s"
exit $failed
