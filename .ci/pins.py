"""Turn pip's report of an installation into constraints: one pin a package, sorted. Usage: python .ci/pins.py REPORT"""

import json
import re
import sys
from pathlib import Path

OURS = "emu-corpus"

report = json.loads(Path(sys.argv[1]).read_text())
found = {re.sub(r"[-_.]+", "-", i["metadata"]["name"]).lower(): i["metadata"]["version"] for i in report["install"]}
print("# One pin for every extra together, on Python 3.11 and Linux. Made by: make constraints")
for name in sorted(found.keys() - {OURS}):
    print(f"{name}=={found[name]}")
