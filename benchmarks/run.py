"""Every benchmark by one command: python benchmarks/run.py [--only NAME ...] [--device cpu|cuda] [--out FILE.json]

Prints a table per benchmark with machine, date and commit, and writes JSON. Medians after warm-up, with spread;
devices are synchronised. In a checkout that is not installed, put PYTHONPATH=. before it. These are
measurements of one machine at one time: compare rows of one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import sys
from pathlib import Path
from typing import Any, Callable

import torch

sys.path.insert(0, str(Path(__file__).parent))

from ssnm.engine.runtime import environment  # noqa: E402
from ssnm.metrics.tables import markdown_table  # noqa: E402


def _start_up(device: str) -> dict[str, Any]:
    import start_up

    return start_up.measure()


def _solver(device: str) -> dict[str, Any]:
    import solver

    return {"name": "solver", "rows": [dataclasses.asdict(row) for row in solver.measure(device)]}


def _network(device: str) -> dict[str, Any]:
    import network

    return network.measure(device) if device == "cuda" else network.measure(device, groups=1, repeats=2)


def _scoring(device: str) -> dict[str, Any]:
    import scoring

    return scoring.measure()


def _segment(device: str) -> dict[str, Any]:
    import segment_group

    return segment_group.measure()


def _loader(device: str) -> dict[str, Any]:
    import loader

    return loader.measure()


BENCHMARKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "start_up": _start_up,
    "solver": _solver,
    "network": _network,
    "loader": _loader,
    "scoring": _scoring,
    "segment": _segment,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME",
                        help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks.json"))
    args = parser.parse_args()
    facts = {"date": datetime.date.today().isoformat(), **environment(torch.device(args.device))}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    results = []
    for name in args.only:
        result = BENCHMARKS[name](args.device)
        results.append(result)
        print(f"\n## {name}" + (f" ({result['batch']})" if "batch" in result else "") + "\n")
        print(table(result["rows"]))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"environment": facts, "results": results}, indent=1) + "\n")
    print(f"\nwritten to {args.out}")
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of one shape as a Markdown table."""
    return markdown_table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
