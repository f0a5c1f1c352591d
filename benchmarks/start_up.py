"""Start-up: seconds of `import ssnm` and of `ssnm --help`, each in a fresh process, and whether torch was loaded."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

CASES = {
    "import ssnm": "import ssnm, sys; print('torch' in sys.modules)",
    "ssnm --help": "import sys; from ssnm.cli import main; main(['--help']); print('torch' in sys.modules)",
}


def measure(repeats: int = 5) -> dict[str, Any]:
    """Median seconds of a whole process, beside those of an empty one."""
    rows = []
    for name, code in {"an empty Python process": "print(False)", **CASES}.items():
        seconds, output = [], ""
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            seconds.append(time.perf_counter() - begin)
        rows.append({"case": name, "seconds": statistics.median(seconds[1:]),
                     "spread_s": max(seconds[1:]) - min(seconds[1:]), "torch loaded": output.split()[-1]})
    return {"name": "start_up", "rows": rows}
