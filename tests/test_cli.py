"""The console command: overview, errors of one line, and what it does without torch."""

import argparse
import importlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssnm import __version__, from_pretrained
from ssnm.cli import COMMANDS, VARIANTS, main
from ssnm.data.procedural import ProceduralSource
from ssnm.errors import CheckpointError
from ssnm.files.places import find

ROOT = Path(__file__).parents[1]


@pytest.fixture
def photos(tmp_path) -> Path:
    folder, source = tmp_path / "photos", ProceduralSource(num_images=3, seed=8)
    folder.mkdir()
    for i, number in enumerate((1, 2, 10)):
        Image.fromarray(source.render(i, (30 + i, 40))[0]).save(folder / f"img_{number}.jpg")
    return folder


def error_of(capsys) -> str:
    """The one line on standard error."""
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_help_and_version(capsys):
    assert main([]) == main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ssnm {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: ssnm {name}" in capsys.readouterr().out


@pytest.mark.parametrize("code", ["import ssnm", "from ssnm.cli import main; main(['--help'])"])
def test_import_and_help_do_not_load_torch(code):
    probe = f"{code}\nimport sys; print([m for m in ('torch', 'timm', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_is_one_line(capsys):
    assert main(["trian"]) == 2
    assert "no command 'trian'" in error_of(capsys)


def test_an_unknown_key_is_one_line_that_names_the_nearest(tiny_config, tmp_path, capsys):
    assert main(["train", str(tiny_config), "--out", str(tmp_path / "run"), "--set", "train.step=5"]) == 2
    message = error_of(capsys)
    assert "train.step" in message and "did you mean 'steps'" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train", "absent.yaml"], "absent.yaml"),
        (["segment", "absent.jpg", "--out", "out", "--checkpoint", "{checkpoint}"], "absent.jpg"),
        (["segment", "{photos}", "--out", "out", "--checkpoint", "absent.pt"], "absent.pt: no such model; give"),
        (["export", "absent", "model.safetensors"], "or the name of a shipped one: default, video"),
        (["segment", "{photos}", "--out", "out", "--checkpoint", "{checkpoint}", "--threshold", "7"], "7"),
        (["segment", "{photos}", "--out", "{config}", "--checkpoint", "{checkpoint}"], "tiny.yaml"),
        (["test", "{checkpoint}", "--dataset", "msrc", "--data", "{photos}", "--out", "out"], "image/"),
        (["export", "{checkpoint}", "model.pth"], ".safetensors"),
        (["train", "{config}", "--device", "gpu"], "gpu"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, words, photos, checkpoint, tiny_config, capsys, monkeypatch):
    monkeypatch.chdir(photos.parent)
    names = dict(photos=photos, checkpoint=checkpoint, config=tiny_config)
    assert main([a.format(**names) for a in arguments]) == 2
    assert words in error_of(capsys)


@pytest.mark.parametrize("where", ["import_module", "run"])
def test_ctrl_c_is_one_line_and_status_130_from_the_first_import_on(where, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    owner = importlib if where == "import_module" else importlib.import_module("ssnm.commands.export")
    monkeypatch.setattr(owner, where, interrupted)
    assert main(["export", "default", "model.safetensors"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    "arguments, work",
    [
        (["label", "{photos}", "--format", "coco"], "ssnm.pretrained.from_pretrained"),
        (["instances", "{photos}"], "ssnm.instances.discovery.discover"),
        (["test", "{deepco3}", "--dataset", "instance_folder", "--data", "{set}"], "ssnm.instances.testing.run_test"),
        (["calibrate", "{checkpoint}"], "ssnm.coseg.calibrate.choose"),
    ],
)
def test_a_folder_that_cannot_be_written_is_told_before_the_work(
    arguments, work, photos, checkpoint, tiny_config, capsys, monkeypatch
):
    (photos.parent / "set" / "Image").mkdir(parents=True)
    photos.rename(photos.parent / "set" / "Image" / "cat")
    monkeypatch.setattr(work, lambda *args, **options: pytest.fail("the work began"))
    names = dict(photos=photos.parent / "set" / "Image" / "cat", set=photos.parent / "set", checkpoint=checkpoint,
                 deepco3=ROOT / "configs" / "deepco3_small.yaml")  # fmt: skip
    out = ["--out", str(tiny_config / "out.safetensors")]
    assert main([*(a.format(**names) for a in arguments), *out]) == 2
    assert "tiny.yaml" in (said := error_of(capsys)) and "cannot be written (" in said


@pytest.mark.parametrize("handler, status", [("default_int_handler", -signal.SIGINT), ("SIG_IGN", 0)])
def test_ctrl_c_while_the_interpreter_ends_is_no_traceback(handler, status):
    code = (f"import atexit, os, signal; signal.signal(signal.SIGINT, signal.{handler}); from ssnm.cli import main\n"
            "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); main(['train', 'absent.yaml'])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == status and len(done.stderr.splitlines()) == 1


def test_without_data_test_says_how_to_name_it(checkpoint, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["test", str(checkpoint), "--dataset", "msrc", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and "--data" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(28, "No space left on device", "x")])
def test_a_full_disk_is_one_line_with_or_without_a_file(error, photos, checkpoint, tmp_path, capsys, monkeypatch):
    def full(*args, **options):
        raise error

    monkeypatch.setattr(Image.Image, "save", full)
    arguments = [str(photos), "--out", str(tmp_path / "out"), "--checkpoint", str(checkpoint)]
    assert main(["segment", *arguments]) == 2
    assert error_of(capsys).endswith("No space left on device")


def test_from_pretrained_says_what_it_takes():
    with pytest.raises(CheckpointError, match="a path of a model file .* got 3"):
        from_pretrained(3)


def test_a_device_beyond_the_last_is_one_line(tiny_config, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert main(["train", str(tiny_config), "--device", "cuda:9", "--dry-run"]) == 2
    assert "sees 2 CUDA devices" in error_of(capsys)


def test_segment_takes_files_and_folders_and_writes_masks(photos, checkpoint, tmp_path, capsys):
    alone = tmp_path / "alone.png"
    Image.fromarray(np.full((20, 24), 80, np.uint8)).save(alone)
    out = tmp_path / "out"
    assert main(["segment", str(alone), str(photos), "--out", str(out), "--checkpoint", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert "shared by 4 images" in printed and str(out) in printed
    assert [line.split(":")[0].strip() for line in printed.splitlines() if line.startswith("  ")] == [
        "alone.png", "img_1.jpg", "img_2.jpg", "img_10.jpg"  # a folder in natural order
    ]
    assert Image.open(out / "masks" / "img_10.png").size == (40, 32)
    assert len(list((out / "overlays").iterdir())) == 4


def test_segment_takes_a_single_image_and_a_model_from_the_folder_of_data(
    photos, checkpoint, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("SSNM_DATA", str(tmp_path))
    (tmp_path / "model.pt").symlink_to(checkpoint)
    arguments = ["photos/img_1.jpg", "--out", str(tmp_path / "out"), "--checkpoint", "model.pt"]
    assert main(["segment", *arguments]) == 0
    assert "shared by 1 image," in capsys.readouterr().out


PATHS = set("DIR FILE ROOT CSV RAW RUN RUN2 IMAGE IMAGES FRAMES FIRST SRC DST CONFIG CHECKPOINT ANNOTATIONS".split())
WRITTEN = {"out", "json", "root"}  # as they are given; root: of datasets prepare --to
LATER = {"checkpoint", "prior", "proposals", "resume"}  # also words; where they are paths, the rule is applied after


def path_arguments(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from path_arguments(sub)
        elif set(str(action.metavar).replace(".", "|").upper().split("|")) & PATHS or action.type in (Path, find):
            yield action


@pytest.mark.parametrize("module", sorted({*(c.replace("-", "_") for c in COMMANDS),
                                           *(m for _, of in VARIANTS.values() for m in of.values())}))  # fmt: skip
def test_every_path_that_a_command_reads_is_looked_up_by_the_one_rule(module):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"ssnm.commands.{module}").add_arguments(parser)
    found = list(path_arguments(parser))
    assert found
    for action in found:
        to_be_written = action.type is Path and ((module, action.dest) == ("instances", "checkpoint") or
                                                       action.dest in WRITTEN)  # fmt: skip
        assert action.type is find or to_be_written or (action.type is None and action.dest in LATER), action.dest


def test_the_scripts_of_a_checkout_are_the_commands():
    done = subprocess.run([sys.executable, str(ROOT / "test.py"), "--help"], capture_output=True, text=True, check=True)
    assert "usage: ssnm test" in done.stdout


def test_training_a_method_that_is_fitted_per_group_is_one_line(capsys):
    assert main(["train", str(ROOT / "configs" / "deepco3_small.yaml")]) == 2
    error = capsys.readouterr().err
    assert "method deepco3 has no train" in error and error.count("\n") == 1
