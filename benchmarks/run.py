"""Every benchmark by one command: python benchmarks/run.py [--only NAME ...] [--device cpu|cuda] [--out FILE.json]

Prints tables per benchmark with machine, date and commit, and writes JSON after each. Medians after warm-up, with
spread; devices are synchronised. In a checkout that is not installed, put PYTHONPATH=. before it. These are
measurements of one machine at one time: compare rows of one run. A benchmark that fails is told and the others run.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).parent))

from ssnm.engine.runtime import environment, pick_device  # noqa: E402
from ssnm.metrics.tables import markdown_table  # noqa: E402


def _start_up(args: argparse.Namespace) -> dict[str, Any]:
    import start_up

    return start_up.measure()


def _solver(args: argparse.Namespace) -> dict[str, Any]:
    import solver

    rows = [dataclasses.asdict(row) for row in solver.measure(args.device)]
    return {"name": "solver", "rows": rows, "tables": {"growth": solver.growth(args.device)}}


def _network(args: argparse.Namespace) -> dict[str, Any]:
    import network

    models = tuple(args.models or network.MODELS)
    compiled = (False, True) if args.compile else (False,)
    if args.device == "cuda":
        return network.measure("cuda", repeats=20, models=models, compiled=compiled,
                               precisions=tuple(args.precisions))
    return network.measure("cpu", groups=1, repeats=2, models=models, compiled=compiled,
                           precisions=tuple(args.precisions))


def _profile(args: argparse.Namespace) -> dict[str, Any]:
    import profile_step

    models = tuple(args.models or profile_step.MODELS)
    if args.device == "cuda":
        return profile_step.measure("cuda", groups=4, models=models, repeats=10, warm_up=5, steps=5,
                                    precisions=tuple(args.precisions))
    return profile_step.measure("cpu", models=models, precisions=tuple(args.precisions))


def _inference(args: argparse.Namespace) -> dict[str, Any]:
    import inference

    models = tuple(args.models or inference.MODELS)
    if args.device == "cuda":
        cases = ((1, 5), (4, 5), (20, 5), (1, 1000))
        return inference.measure("cuda", models, cases, repeats=5)
    return inference.measure("cpu", models)


def _scoring(args: argparse.Namespace) -> dict[str, Any]:
    import scoring

    return scoring.measure()


def _segment(args: argparse.Namespace) -> dict[str, Any]:
    import segment_group

    return segment_group.measure(device=args.device)


def _photographs(args: argparse.Namespace) -> dict[str, Any]:
    import photographs

    return photographs.measure(tuple(args.photographs), args.device)


def _reduced(args: argparse.Namespace) -> dict[str, Any]:
    import reduced_decoding

    return reduced_decoding.measure(Path(os.environ["SSNM_DATA"]), args.device)


def _loader(args: argparse.Namespace) -> dict[str, Any]:
    import loader

    data = Path(os.environ["SSNM_DATA"]) / "COCO_mini549" if os.environ.get("SSNM_DATA") else None
    workers = [n for n in (0, 1, 2, 4, 8) if n <= (os.cpu_count() or 1)]
    return loader.measure(data, seconds=6.0, workers=workers)


def _before_after(args: argparse.Namespace) -> dict[str, Any]:
    import before_after

    return before_after.measure()


def _onnx(args: argparse.Namespace) -> dict[str, Any]:
    import onnx_runtime

    return onnx_runtime.measure()


BENCHMARKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "start_up": _start_up,
    "before_after": _before_after,
    "solver": _solver,
    "network": _network,
    "profile": _profile,
    "inference": _inference,
    "loader": _loader,
    "onnx": _onnx,
    "scoring": _scoring,
    "segment": _segment,
    "photographs": _photographs,
    "reduced_decoding": _reduced,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME",
                        help=f"some of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="of network, profile, inference: timm names")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16", "fp16"), default=["fp32", "bf16"],
                        help="of network, profile; the last one is profiled in detail")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None,
                        help="network: also torch.compile; default: on CUDA only, compiling takes minutes on a CPU")
    parser.add_argument("--photographs", nargs="+", type=int, default=[100], metavar="N",
                        help="photographs: how many in a folder, as 100 1000 (default: 100)")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks.json"))
    args = parser.parse_args(argv)
    args.compile = args.device == "cuda" if args.compile is None else args.compile
    facts = {"date": datetime.date.today().isoformat(), **environment(pick_device(args.device))}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    results, failed = [], []
    for name in args.only:
        try:
            result = BENCHMARKS[name](args)
        except Exception:  # a long run on a machine that is lent: keep what the others give
            traceback.print_exc()
            failed.append(name)
            continue
        results.append(result)
        print(f"\n## {name}" + (f" ({result['batch']})" if "batch" in result else "") + "\n")
        print(table(result["rows"]))
        for title, rows in result.get("tables", {}).items():
            print(f"\n### {title}\n\n{table(rows)}", flush=True)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"environment": facts, "results": results}, indent=1) + "\n")
    print(f"\nwritten to {args.out}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def table(rows: list[dict[str, Any]]) -> str:
    """Rows of one shape as a Markdown table."""
    return markdown_table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
