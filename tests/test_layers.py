"""Who may import whom: the floors of docs/architecture.md, read from the sources."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ssnm.methods import METHODS

ROOT = Path(__file__).parents[1]
TABLE_ROW = re.compile(r"^\| (\d) \| (.+?) \|", re.MULTILINE)
TORCH_FREE = ("ssnm.config", "ssnm.errors", "ssnm.naming", "ssnm.files", "ssnm.facts", "ssnm.metrics", "ssnm.visualize",
              "ssnm.methods", "ssnm.pretrained", "ssnm.cli")  # fmt: skip
METHOD_FOLDERS = {f"ssnm.{folder}" for folder in METHODS.values()}
# the modules of a method that see its config
READERS_OF_CONFIG = ("config", "build", "files", "train", "calibrate", "convert", "testing", "discovery")


def floors() -> dict[str, int]:
    """Module or package -> floor, as the table says: {"ssnm.files": 2, "ssnm.nn": 3, ...}."""
    placed = {}
    for floor, places in TABLE_ROW.findall((ROOT / "docs" / "architecture.md").read_text()):
        for place in re.findall(r"`([^`]+)`", places):
            placed[place.strip("/").removesuffix(".py").replace("/", ".")] = int(floor)
    return placed


FLOORS = floors()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str | None:
    """The entry of the table that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), None)


def imports_of(path: Path) -> set[str]:
    """Every module of this project that a file imports, wherever in the file, type-checking blocks included."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {name if (name := f"{base}.{alias.name}") in SOURCES else base for alias in node.names}
    return {name for name in found if name.split(".")[0] == "ssnm"}


SOURCES = {module_name(p): p for p in sorted((ROOT / "ssnm").rglob("*.py"))}
IMPORTS = {module: imports_of(path) for module, path in SOURCES.items()}
MODULES = [module for module in SOURCES if module != "ssnm"]  # the package itself finds its names lazily


def forbidden(importer: str, imported: str) -> bool:
    """Anything but the own room and the floors below; two methods are two rooms of one floor."""
    here, there = room_of(importer), room_of(imported)
    return there is not None and here != there and FLOORS[there] >= FLOORS[here]


def test_the_table_was_read():
    assert FLOORS["ssnm.errors"] == 0 and FLOORS["ssnm.files"] == 2 and FLOORS["ssnm.coseg"] == 5
    assert METHOD_FOLDERS <= set(FLOORS)


def test_every_module_has_its_place_in_the_table():
    assert [m for m in MODULES if room_of(m) is None] == []


def test_a_module_imports_only_from_its_own_room_and_from_lower_floors():
    wrong = {m: bad for m in MODULES if (bad := [name for name in IMPORTS[m] if forbidden(m, name)])}
    assert wrong == {}


@pytest.mark.parametrize(
    "importer, imported, no",
    [
        ("ssnm.nn.backbones", "ssnm.coseg.model", True),
        ("ssnm.engine.loop", "ssnm.nn.weights", True),
        ("ssnm.engine.loop", "ssnm.files.atomic", False),
        ("ssnm.data.folders", "ssnm.coseg.pool", True),
        ("ssnm.coseg.model", "ssnm.nn.backbones", False),
        ("ssnm.coseg.model", "ssnm.coseg.spectral", False),
        ("ssnm.coseg.build", "ssnm.pretrained", True),
        ("ssnm.commands.train", "ssnm.coseg.train", False),
        ("ssnm.files.images", "ssnm.errors", False),
    ],
)
def test_the_rule_itself(importer, imported, no):
    assert forbidden(importer, imported) is no


def test_no_import_goes_in_a_circle_inside_a_room_either():
    graph = {m: {n for n in IMPORTS[m] if n in SOURCES and n != m} for m in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_circle_finder_finds_one():
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())


def test_only_the_composition_of_a_method_sees_its_config():
    readers = {m for m in MODULES if any(m.startswith(f + ".") for f in METHOD_FOLDERS)
               and any(n.startswith("ssnm.config") or n.endswith(".config") for n in IMPORTS[m])}  # fmt: skip
    assert {m for m in readers if m.split(".")[-1] not in READERS_OF_CONFIG} == set()
    ground = [m for m in MODULES if m.startswith(("ssnm.nn", "ssnm.engine", "ssnm.data", "ssnm.metrics"))]
    assert [m for m in ground if any(n.startswith("ssnm.config") for n in IMPORTS[m])] == []


def test_pycocotools_is_imported_where_annotations_are_read_only_and_not_on_import():
    def users(tree: ast.AST) -> bool:
        nodes = list(ast.walk(tree))
        plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        return any(n.startswith("pycocotools") for n in plain | {n.module or "" for n in nodes
                                                                  if isinstance(n, ast.ImportFrom)})  # fmt: skip

    trees = {m: ast.parse(path.read_text()) for m, path in SOURCES.items()}
    found = [m for m, tree in trees.items() if users(tree)]
    assert found and all(m.startswith(("ssnm.data.", "ssnm.files.", "ssnm.metrics.", "ssnm.instances.")) for m in found)
    at_import = [m for m in found if users(ast.Module([n for n in trees[m].body if isinstance(
        n, (ast.Import, ast.ImportFrom))], []))]  # fmt: skip
    assert at_import == []


@pytest.fixture(scope="module")
def loaded_by() -> dict[str, set[str]]:
    """Which heavy packages are loaded after importing each module, one after the other in a fresh interpreter."""
    probe = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    print(name, *(m for m in ('torch', 'timm', 'pycocotools', 'matplotlib') if m in sys.modules))\n"
    )
    light = [m for m in MODULES if m.startswith(("ssnm.metrics.", "ssnm.visualize.", "ssnm.files.", "ssnm.config."))]
    names = ["ssnm", *TORCH_FREE, *light]
    done = subprocess.run([sys.executable, "-c", probe, *names], capture_output=True, text=True, cwd=ROOT, check=True)
    return {name: set(rest) for name, *rest in (line.split() for line in done.stdout.splitlines())}


def test_light_modules_do_not_load_torch(loaded_by):
    assert len(loaded_by) > len(TORCH_FREE)
    assert {name: loaded for name, loaded in loaded_by.items() if loaded} == {}
