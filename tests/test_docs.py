"""The code in the documents runs as it is printed there (with fewer steps), in a folder of its own."""

import dataclasses
import importlib
import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

import ssnm
from ssnm import methods
from ssnm.cli import main
from ssnm.config.loading import config_to_dict
from ssnm.coseg.config import config_from_dict
from ssnm.data.procedural import write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS

ROOT = Path(__file__).parents[1]
TINY = {
    "train.steps": 2, "train.batch_groups": 2, "train.log_every": 1, "data.size": 32, "data.workers": 0,
    "data.group_size": 2, "validation.groups": 2, "validation.two_category_images": 1,
}


DOCUMENTS = sorted(str(p.relative_to(ROOT)) for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document that are marked with `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """A folder with configs/ and photos, in which every config is loaded with tiny settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    load = methods.load_config
    for command in ("train", "cache"):  # they bind the real load_config, before another one is put there
        importlib.import_module(f"ssnm.commands.{command}")

    def load_tiny(path, overrides=()):
        return load(path, [*overrides, *(f"{key}={value}" for key, value in TINY.items())])

    monkeypatch.setattr(methods, "load_config", load_tiny)
    return tmp_path


def run_document(document: str) -> dict:
    names: dict = {}
    for number, block in enumerate(blocks(document, "python")):
        exec(compile(block, f"{document}, python block {number + 1}", "exec"), names)
    return names


def test_a_source_of_your_own_trains_a_model_that_segments(workplace):
    names = run_document("docs/own_data.md")
    assert names["result"].finished and names["result"].step == TINY["train.steps"]
    segmenter = ssnm.from_pretrained("runs/drawings/checkpoints/best.pt", "cpu")
    assert segmenter.labels == ("disc", "square")
    drawing = names["DiscsAndSquares"](1).load(0, (40, 60)).image.permute(1, 2, 0).numpy()
    assert segmenter.segment([drawing]).masks[0].shape == (40, 60)


def test_a_backbone_of_your_own_trains_and_predicts(workplace, capsys):
    names = run_document("docs/own_backbone.md")
    assert "(96, 128)" in capsys.readouterr().out
    assert isinstance(names["network"].backbone, names["SmallBackbone"])
    assert (workplace / "runs" / "small" / "checkpoints" / "best.pt").is_file()


@pytest.mark.parametrize("document", ["docs/own_data.md", "docs/own_backbone.md"])
def test_each_class_to_write_is_of_about_twenty_lines(document):
    lines = [line for line in blocks(document, "python")[0].splitlines() if line.strip()]
    assert len(lines) <= 25


@pytest.mark.parametrize("document", ["docs/own_data.md", "docs/own_backbone.md"])
def test_the_yaml_blocks_are_configs(document):
    assert blocks(document, "yaml")
    for block in blocks(document, "yaml"):
        config_from_dict(yaml.safe_load(block), document)


def test_folders_of_your_own_are_trained_by_the_yaml_of_the_document(workplace):
    """Without its VOC source, which is not at hand here, and with a backbone that needs no download."""
    write_procedural(workplace / "my_data", SEEN_KINDS[:2], 8, (40, 40), objects_per_image=(2, 2))
    config = config_from_dict(yaml.safe_load(blocks("docs/own_data.md", "yaml")[0]), "docs")
    tiny = dataclasses.replace(config.data, root=str(workplace), sources=config.data.sources[:1], holdout=0.3)
    plain = config_to_dict(dataclasses.replace(config, data=tiny))
    plain["model"]["backbone"] |= {"name": "mobilenetv2_035", "weights": "none"}
    (workplace / "my.yaml").write_text(yaml.safe_dump(plain))
    overrides = [f"{key}={value}" for key, value in TINY.items()]
    assert main(["train", "my.yaml", "--out", "runs/mine", "--device", "cpu", "--set", *overrides]) == 0
    assert sorted(ssnm.from_pretrained("runs/mine/checkpoints/best.pt").labels) == sorted(SEEN_KINDS[:2])


def test_the_python_of_the_readme_runs(workplace):
    """Its photographs are taken to be a.jpg, b.jpg, c.jpg in the current folder."""
    from PIL import Image

    from ssnm.data.procedural import ProceduralSource

    assert blocks("README.md", "python")
    source = ProceduralSource(num_images=3, seed=1)
    for index, name in enumerate("abc"):
        Image.fromarray(source.render(index, (48, 64))[0]).save(workplace / f"{name}.jpg")
    run_document("README.md")


# What documents, notebooks, configs and docstrings name


NAMED_PATH = re.compile(r"(?<![\w./<-])((?:ssnm|tests|docs|configs|scripts|benchmarks|notebooks|\.ci)/[\w./-]*\w/?)")
NAMED_MODULE = re.compile(r"(?<![\w./@-])ssnm(?!\.(?:py|pt2)\b)(?:\.[A-Za-z_]\w*)+(?![\w/-])")
PLACEHOLDERS = ("configs/my", "notebooks/NAME", "configs/osmn_")


def named_in() -> dict[str, str]:
    """Every file that may name others -> its text; of CHANGELOG.md only the column of today's names."""
    patterns = ("*.md", "docs/*.md", "notebooks/*", "configs/*.yaml", "*.py", "ssnm/**/*.py", "tests/**/*.py",
                "scripts/*.py", "benchmarks/*", ".github/**/*.yml", ".ci/run")  # fmt: skip
    files = sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()})
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    for name, text in texts.items():
        if name.endswith(".ipynb"):
            cells = [cell["source"] for cell in json.loads(text)["cells"]]
            texts[name] = "".join(line for source in cells for line in [*source, "\n"])
    texts["CHANGELOG.md"] = "\n".join(re.findall(r"^\| .+ \| (.+) \|$", texts["CHANGELOG.md"], re.MULTILINE))
    return texts


def exists(path: str) -> bool:
    wanted = ROOT / path
    return wanted.exists() or wanted.with_suffix(".py").exists() or path.startswith(PLACEHOLDERS)


def resolves(name: str) -> bool:
    """Whether a dotted name is there: of a module, a thing in it, or a part of that. Into a module of an extra that is
    not installed nobody looks."""
    thing = ssnm
    for part in name.split(".")[1:]:
        inside = f"{thing.__name__}.{part}" if hasattr(thing, "__path__") else None  # a package: perhaps a module of it
        if inside and importlib.util.find_spec(inside) is not None:
            try:
                thing = importlib.import_module(inside)
            except ModuleNotFoundError as error:
                assert not (error.name or "").startswith("ssnm")
                return True
        elif not hasattr(thing, part):  # a field without default is a name of its class, too
            return part in getattr(thing, "__annotations__", {})
        else:
            thing = getattr(thing, part)
    return True


def test_paths_that_are_named_anywhere_exist():
    named = {(file, path) for file, text in named_in().items() for path in NAMED_PATH.findall(text)}
    assert len(named) > 100
    assert sorted((file, path) for file, path in named if not exists(path)) == []


def test_modules_that_are_named_anywhere_can_be_imported():
    named = {(file, name) for file, text in named_in().items() for name in NAMED_MODULE.findall(text)}
    unknown = {name for name in {name for _, name in named} if not resolves(name)}
    assert len(named) > 100
    assert sorted((file, name) for file, name in named if name in unknown) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_document_is_listed_in_the_table_of_contents():
    listed = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
