#!/usr/bin/env bash
# cv2.resize(INTER_CUBIC) of 8-bit pictures gives other pixels where Intel's library (IPP, part of
# the x86 wheels) does it than where OpenCV's own code does (ARM wheels, or cv2.ipp.setUseIPP(False)):
# OpenCV rounds its weights to 11 bits, IPP does not. Where the weights are exact in 11 bits (a factor
# of 4/3, say) both agree, so that a test on such a size does not notice. INTER_AREA and INTER_LINEAR
# are the same either way. Face crops that are enlarged thus depend on the machine, and a port to
# another language equals only one of the two.
# Exits with 1 where this is otherwise; skipped where OpenCV has no IPP.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
    opencv-python-headless==4.14.0.94 numpy==2.4.6
cd "$place"
env/bin/python - <<'PYTHON'
import sys

import cv2
import numpy as np

print(f"OpenCV {cv2.__version__}, {cv2.ipp.getIppVersion() or 'no IPP'}")
if not cv2.ipp.useIPP():
    sys.exit(0)
picture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
held = True
for name, side, differs in (
    ("INTER_CUBIC", 224, True), ("INTER_AREA", 64, False), ("INTER_LINEAR", 224, False)
):
    found = []
    for used in (True, False):
        cv2.ipp.setUseIPP(used)
        found.append(cv2.resize(picture, (side, side), interpolation=getattr(cv2, name)).astype(int))
    apart = np.abs(found[0] - found[1])
    print(f"{name}, 100 to {side} px: {(apart > 0).mean():.2%} of the values differ, by at most {apart.max()}")
    held &= bool(apart.max() > 0) == differs
sys.exit(0 if held else 1)
PYTHON
