#!/usr/bin/env bash
# benchmarks/gpu.sh [KIND [FOLDER]]: checks the kernels on this machine's GPU, times every suite at
# three shapes, and writes the record to FOLDER/DEVICE.json, benchmarks/results unasked. Needs CUDA
# and cacheclip with its dev extra; about half an hour. KIND cpu does the same without a GPU, for
# the test that runs each line. Not run on a GPU yet.
set -euo pipefail
kind="${1:-cuda}"
cd "$(dirname "$0")/.."
python="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}"
results="${2:-benchmarks/results}"
unset TRITON_INTERPRET

device="$("$python" - "$kind" <<'PY'
import re
import sys
import torch
if sys.argv[1] == "cpu":
    print("cpu")
elif torch.cuda.is_available():
    print(re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-"))
PY
)"
if [ -z "$device" ]; then
    echo "error: no CUDA device seen; this script measures GPUs alone" >&2
    exit 5
fi

"$python" -m pytest tests/kernels -q

records="$(mktemp -d)"
trap 'rm -rf "$records"' EXIT
bench() { "$python" -m cacheclip bench --device "$kind" "$@"; }
bench kernels train search store extract startup \
    --shape food101-vitb32 --variants 1000 --json "$records/1.json"
bench kernels train search --shape imagenet-rn50 --variants 64 --json "$records/2.json"
bench kernels train search --shape imagenet-vitl14 --variants 64 --json "$records/3.json"

"$python" - "$results/$device.json" "$records"/*.json <<'PY'
import json
import sys
from pathlib import Path
target, *parts = map(Path, sys.argv[1:])
records = {"command": "benchmarks/gpu.sh", "records": [json.loads(p.read_text()) for p in parts]}
target.write_text(json.dumps(records, indent=1) + "\n")
print(target)
PY
