"""The quick start's claim, measured: python scripts/quickstart_proof.py [--each] [--with-modulators RUN] [--out DIR]

Trains configs/quickstart.yaml as it is (or takes a finished run of it) and once more with both modulators off (same
seed, same steps), prints J on held-out groups of seen and unseen kinds, and exits with status 1 if J on seen kinds is
below 70 or less than 15 points above the run without modulators: that difference shows that the modulators use the
group. --each trains two more runs, each without one of them: which of the two does it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPATIAL, SEMANTIC = "model.spatial.enabled=false", "model.semantic.enabled=false"
OFF = {"both off": [SPATIAL, SEMANTIC], "the spatial one off": [SPATIAL], "the semantic one off": [SEMANTIC]}
WANTED_J, WANTED_GAIN = 70.0, 15.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--with-modulators", type=Path, metavar="RUN", help="a finished run folder of the quick start")
    parser.add_argument("--each", action="store_true", help="also without one modulator each")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart_proof"))
    args = parser.parse_args()
    whole = args.with_modulators or train(args.out / "with_both_modulators", [])
    runs, scores = {"both modulators": whole}, {}
    for name in OFF if args.each else ["both off"]:
        runs[name] = train(args.out / name.replace(" ", "_"), ["--set", *OFF[name]])
    for name, run in runs.items():
        summary = json.loads((run / "summary.json").read_text())
        seen, unseen = summary["scores"], summary["further"]["unseen kinds"]
        scores[name] = seen["J"]
        print(f"with {name}: J seen kinds {seen['J']:.1f}, unseen kinds {unseen['J']:.1f}; "
              f"group use {seen['group_use']:.0f} / {unseen['group_use']:.0f} %")
    facts = json.loads((whole / "environment.json").read_text())
    print(f"commit {facts['commit']}, torch {facts['torch']}, {facts['device']}, {facts['threads']} threads, seed 0")
    with_group, without = scores["both modulators"], scores["both off"]
    good = with_group >= WANTED_J and with_group - without >= WANTED_GAIN
    print(f"{'ok' if good else 'FAILED'}: J {with_group:.1f} (wanted {WANTED_J:.0f}), {with_group - without:+.1f} over "
          f"the run without modulators (wanted {WANTED_GAIN:+.0f})")
    return 0 if good else 1


def train(out: Path, options: list[str]) -> Path:
    """The quick start by its own command, into `out`; says how long it took."""
    begin = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), str(ROOT / "configs" / "quickstart.yaml"), "--out", str(out)]
    subprocess.run([*command, *options], check=True)
    print(f"{out.name}: {(time.perf_counter() - begin) / 60:.1f} minutes")
    return out


if __name__ == "__main__":
    sys.exit(main())
