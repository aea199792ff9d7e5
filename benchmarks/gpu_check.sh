#!/bin/bash
# Tests and figures of a machine with one GPU in at most ten minutes, as one Markdown table.
#
#   [WHEELS=DIR] [OUT=DIR] bash benchmarks/gpu_check.sh
#
# WHEELS holds the packages that the machine lacks; without it they must be installed. OUT gets
# gpu_check.md and what each part said. TINY=1 runs every part in small on the CPU, to see that it
# works, however long that takes.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${OUT:-gpu_check}")
mkdir -p "$out"
if [[ ${WHEELS:-} ]]; then
  python3 -m venv --system-site-packages "$out/venv"
  "$out/venv/bin/pip" install --quiet --no-index --find-links "$WHEELS" "$WHEELS"/*.whl
  "$out/venv/bin/pip" install --quiet --no-deps --no-build-isolation --editable .
  export PATH=$out/venv/bin:$PATH
fi
device=cuda tiny=() slack=1
paper=(--size 299 --batch 64 --teacher xception --steps 5 25 --workers 4 --sequential)
paper+=(--accelerator gpu --precision bf16-mixed)
compiled=(--batch 64 --size 299 --precision bf16-mixed)
if [[ ${TINY:-} ]]; then
  device=cpu tiny=(--tiny) slack=10
  paper=(--size 64 --batch 4 --teacher resnet18_thin --columns vanilla "TOKD both" --steps 1 2)
  paper+=(--sequential)
  compiled=(--batch 2 --size 64 --backbone resnet18_thin --repeats 2)
fi

echo "| part | seconds | what it says |" >"$out/gpu_check.md"
echo "|---|---|---|" >>"$out/gpu_check.md"
part() { # NAME LIMIT LINES COMMAND…
  local name=$1 limit=$2 lines=$3 started=$SECONDS code=0
  shift 3
  timeout $((limit * slack)) "$@" >"$out/$name.log" 2>&1 || code=$?
  local said
  said=$(grep -v '^ *$' "$out/$name.log" | tail -n "$lines" | sed 's/|/\\|/g' | paste -sd'#' | sed 's/#/<br>/g')
  ((code)) && said="exit code $code; $said"
  echo "| $name | $((SECONDS - started)) | $said |" >>"$out/gpu_check.md"
}

part tests 150 1 python3 -m pytest -q -m gpu -p no:cacheprovider
part steps 120 60 python3 -m benchmarks --device $device "${tiny[@]}" --only filters rotations steps --out "$out/figures.json"
part compiled 90 12 python3 -m benchmarks.compiled --device $device "${compiled[@]}"
part cohort 240 3 python3 -m benchmarks.cohort "${paper[@]}" --out "$out/cohort.json"
cat "$out/gpu_check.md"
