"""Execute the notebooks top to bottom and store their outputs in the repository.

    python scripts/build_notebooks.py [NAME ...] [--model FILE]

Each runs in a fresh kernel, in a temporary copy of what it needs, without SSNM_DATA: stored outputs show procedural
images only. A notebook that fails is left as it was.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ("segment_your_photos", "evaluate_and_compare", "follow_objects", "find_instances")
CELL_SECONDS = 1200
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def execute(name: str, folder: Path, model: str | None = None, data: str | None = None) -> nbformat.NotebookNode:
    """Run notebooks/NAME.ipynb in `folder`/notebooks, beside a copy of configs/.

    Args:
        model: what the notebook takes for the shipped model; None leaves it the shipped one.
        data: the value of SSNM_DATA; None leaves it unset, whatever this process has.

    Returns:
        The executed notebook. What it wrote lies under `folder`.

    Raises:
        CellExecutionError, DeadKernelError: a cell failed, or the kernel died.
    """
    shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
    (folder / "notebooks").mkdir(exist_ok=True)
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    environment = {k: v for k, v in os.environ.items() if k not in ("SSNM_DATA", "SSNM_MODEL")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    environment |= {k: v for k, v in (("SSNM_DATA", data), ("SSNM_MODEL", model)) if v is not None}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder / "notebooks")}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    return client.execute(env=environment)


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run or machine to machine: progress bars, widget ids, the kernel's version.

    Pillow's images come as PNG and JPEG; the JPEG is kept, a seventh of the size.
    """
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = [o for o in cell.outputs if o.get("name") != "stderr" and WIDGET_VIEW not in o.get("data", {})]
        for output in kept:
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)
        cell.outputs = kept
        cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def build(name: str, model: str | None) -> Path:
    """Execute one notebook and replace the stored one."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    with tempfile.TemporaryDirectory() as folder:
        notebook = tidy(execute(name, Path(folder), model))
    temporary = path.with_name(f".{path.name}.writing")
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (default: {', '.join(NOTEBOOKS)})")
    parser.add_argument("--model", metavar="FILE", help="run with this model instead of the shipped one")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in NOTEBOOKS]
    if unknown:
        parser.error(f"no notebook '{unknown[0]}'; there are {', '.join(NOTEBOOKS)}")
    for name in args.names or NOTEBOOKS:
        try:
            path = build(name, str(Path(args.model).resolve()) if args.model else None)
        except (CellExecutionError, DeadKernelError) as error:
            print(f"{error}\nerror: {name} failed and was left as it was; the cell is named above", file=sys.stderr)
            return 1
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
