#!/bin/bash
# W&B: an offline run cannot take the id of an online one whose start has failed.
#
# A key and no network: wandb.init(mode="online", id=X) raises CommError after its timeout. The natural
# fallback, wandb.init(mode="offline", id=X) in the same process, raises too: wandb-core still holds a
# stream of that id. wandb.teardown() between the two, which ends that process, lets it through.
# Exits with 0 while this is so.
set -euo pipefail

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/pip" install --quiet "wandb==0.31.0"

cat > "$here/fallback.py" <<'PY'
import sys
import time

import wandb

wait = wandb.Settings(init_timeout=5)
started = time.monotonic()
try:
    wandb.init(id="same", dir="online", mode="online", settings=wait)
    sys.exit("the run started online: this needs a server that cannot be reached")
except wandb.errors.CommError as error:
    print(f"online: {type(error).__name__} after {time.monotonic() - started:.0f} s")
if "teardown" in sys.argv:
    wandb.teardown()
try:
    run = wandb.init(id="same", dir="offline", mode="offline")
except Exception as error:
    print(f"offline: {type(error).__name__}: {error}")
    sys.exit(0 if "is in use" in str(error) and "teardown" not in sys.argv else 1)
run.log({"loss": 1.0})
run.finish()
print(f"offline: started as {run.id}")
sys.exit(0 if "teardown" in sys.argv else 1)
PY

cd "$here"
export WANDB_API_KEY WANDB_BASE_URL=http://127.0.0.1:9 WANDB_SILENT=true HOME=$here
WANDB_API_KEY=$(printf 'a%.0s' $(seq 40))
"$here/venv/bin/python" -c 'import wandb; print("wandb", wandb.__version__)'
mkdir online offline
echo "-- straight after the failure"
"$here/venv/bin/python" fallback.py
echo "-- after wandb.teardown()"
"$here/venv/bin/python" fallback.py teardown
