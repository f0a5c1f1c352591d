"""Who may import whom: the table of docs/architecture.md, read from the sources."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE_ROW = re.compile(r"^\| (\d) \| (.+?) \|", re.MULTILINE)
SIBLINGS = ("data", "losses", "metrics", "models", "visualize")
TORCH_FREE = ("ssnm.config", "ssnm.errors", "ssnm.naming", "ssnm.files.images", "ssnm.metrics", "ssnm.visualize")


def layers() -> dict[str, int]:
    """Module or package -> layer, as the table says: {"ssnm.ops": 0, "ssnm.models": 1, ...}."""
    placed = {}
    for layer, places in TABLE_ROW.findall((ROOT / "docs" / "architecture.md").read_text()):
        for place in re.findall(r"`([^`]+)`", places):
            placed[place.strip("/").removesuffix(".py").replace("/", ".")] = int(layer)
    return placed


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def place_of(module: str) -> str | None:
    """The entry of the table that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in layers()), None)


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
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "ssnm"}


SOURCES = {module_name(p): p for p in sorted((ROOT / "ssnm").rglob("*.py"))}
INITIAL = "ssnm"  # the package itself: from_pretrained and the version, found lazily


def test_the_table_was_read():
    assert layers()["ssnm.ops"] == 0 and layers()["ssnm.coseg.build"] == 3 and layers()["ssnm.models"] == 1


def test_every_module_has_its_place_in_the_table():
    assert [m for m in SOURCES if m != INITIAL and place_of(m) is None] == []


def forbidden(importer: str, imported: str) -> bool:
    """A higher layer, or a package of the same layer that is not a plain shared module."""
    here, there = place_of(importer), place_of(imported)
    if there is None or here == there:
        return False
    if layers()[there] != layers()[here]:
        return layers()[there] > layers()[here]
    siblings = {f"ssnm.{name}" for name in SIBLINGS}
    upwards = (here, there) == ("ssnm.engine", "ssnm.inference")
    return (here in siblings and there in siblings) or upwards or there in ("ssnm.config", "ssnm.ops")


@pytest.mark.parametrize("module", [m for m in SOURCES if m != INITIAL])
def test_a_module_imports_only_from_layers_above_it(module):
    if place_of(module) is None:
        pytest.skip("not in the table: another test says so")
    assert [name for name in imports_of(SOURCES[module]) if forbidden(module, name)] == []


@pytest.mark.parametrize(
    "importer, imported, no",
    [
        ("ssnm.coseg.spectral", "ssnm.coseg.model", True),
        ("ssnm.coseg.model", "ssnm.coseg.losses", True),
        ("ssnm.coseg.model", "ssnm.config", False),
        ("ssnm.coseg.spectral", "ssnm.config", True),
        ("ssnm.engine.loop", "ssnm.coseg.predict", True),
        ("ssnm.coseg.predict", "ssnm.engine.checkpoint", False),
        ("ssnm.engine.loop", "ssnm.coseg.build", True),
        ("ssnm.coseg.build", "ssnm.commands.train", True),
        ("ssnm.files.images", "ssnm.errors", False),
    ],
)
def test_the_rule_itself(importer, imported, no):
    assert forbidden(importer, imported) is no


def test_no_layer_below_the_factory_sees_a_config():
    others = [m for m in SOURCES if m != INITIAL and not m.startswith("ssnm.config") and place_of(m)]
    below = [m for m in others if layers()[place_of(m)] < layers()["ssnm.coseg.build"]]
    readers = [m for m in below if any(n.startswith("ssnm.config") for n in imports_of(SOURCES[m]))]
    assert readers == []


def test_only_data_knows_pycocotools():
    def names_of(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        plain = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        return plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}

    users = [m for m, path in SOURCES.items() if any(n.startswith("pycocotools") for n in names_of(path))]
    assert all(m.startswith("ssnm.data.") for m in users) and users


@pytest.fixture(scope="module")
def loaded_by() -> dict[str, set[str]]:
    """Which heavy packages are loaded after importing each module, each in a fresh interpreter (one process)."""
    probe = (
        "import subprocess, sys\n"
        "code = 'import importlib, sys; importlib.import_module(sys.argv[1]); '"
        "'print(*(m for m in (\"torch\", \"timm\", \"pycocotools\", \"matplotlib\") if m in sys.modules))'\n"
        "for name in sys.argv[1:]:\n"
        "    done = subprocess.run([sys.executable, '-c', code, name], capture_output=True, text=True)\n"
        "    print(name, done.stdout.strip() if not done.returncode else 'FAILED ' + done.stderr[-300:])\n"
    )
    names = ["ssnm", *TORCH_FREE, *(m for m in SOURCES if m.startswith(("ssnm.metrics.", "ssnm.visualize.")))]
    done = subprocess.run([sys.executable, "-c", probe, *names], capture_output=True, text=True, cwd=ROOT, check=True)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith("ssnm")]
    return {name: set(rest[0].split()) if rest else set() for name, *rest in lines}


def test_light_modules_do_not_load_torch(loaded_by):
    assert len(loaded_by) > len(TORCH_FREE)
    assert {name: loaded for name, loaded in loaded_by.items() if loaded} == {}
