"""An exported model is the model: probabilities on any number and size of images, by every way in; 8 bits; errors."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.coseg.model import SpatialModulator
from ssnm.coseg.predict import Predictor
from ssnm.data.procedural import ProceduralSource
from ssnm.errors import CheckpointError, ConfigError, DataError, MissingFileError, MissingPackageError
from ssnm.files.masks import read_binary

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason='the extra "onnx" is not installed (pip install -e ".[onnx]")')

LARGEST_DIFFERENCE = 1e-3  # of a probability


def pictures(count: int, size: tuple[int, int]) -> list[np.ndarray]:
    source = ProceduralSource(num_images=60, seed=3)
    return [np.ascontiguousarray(source.render(i, size)[0]) for i in range(count)]


def stack(count: int, side: int) -> torch.Tensor:
    return torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures(count, (side, side))])


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped model, exported by the command."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    assert main(["export", "default", str(folder), "--format", "onnx"]) == 0
    return folder


@pytest.fixture(scope="module")
def torch_segmenter():
    return ssnm.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, picture in enumerate(pictures(3, (60, 80))):
        Image.fromarray(picture).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("count, side", [(1, 288), (4, 160), (3, 101)])
def test_probabilities_of_the_shipped_model_are_those_of_torch(shipped, torch_segmenter, count, side):
    """By the predictor, and by arrays alone."""
    predictor, segmenter = torch_segmenter.predictor, ssnm.from_pretrained(shipped)
    images, sizes = stack(count, side), [(side, side)] * count
    wanted = Predictor(predictor.model, side, presence=predictor.presence).predict_tensors(images, sizes)
    onnx = Predictor(segmenter.predictor.model, side, presence=segmenter.predictor.presence)
    found = onnx.predict_tensors(images, sizes)
    alone, agreed = segmenter.predictor.model.network((images.float() / 255).numpy())
    assert wanted.probabilities.max() > 0.5
    for probabilities in (found.probabilities, alone):
        assert np.abs(probabilities - wanted.probabilities).max() < LARGEST_DIFFERENCE
    np.testing.assert_allclose(agreed, wanted.agreement, atol=1e-4)
    np.testing.assert_allclose(found.present, wanted.present, atol=1e-3)
    np.testing.assert_allclose(found.category_probabilities, wanted.category_probabilities, atol=1e-4)
    np.testing.assert_allclose(found.spatial_masks, wanted.spatial_masks, atol=1e-3)


@pytest.mark.parametrize("options", [
    pytest.param(dict(spatial=None), marks=pytest.mark.slow), pytest.param(dict(semantic=None), marks=pytest.mark.slow),
    pytest.param(dict(level_norm="layer", head_extra_convolution=False), marks=pytest.mark.slow),
    dict(spatial=SpatialModulator("nonnegative_sum", "unit"), level_activation="relu", fusion_activation="relu",
         semantic=dict(image_dim=8, group_dim=4, normalisation="signed_sqrt", activation="relu")),
])  # fmt: skip
def test_every_variant_is_exported(tiny_model, tmp_path, options):
    """These fuse levels where they have a spatial modulator. One group, two groups in a call, a group in chunks."""
    from ssnm.coseg.files import Inference
    from ssnm.coseg.guidance import segments_alone
    from ssnm.coseg.onnx.export import export_onnx
    from ssnm.coseg.onnx.runtime import OnnxModel

    model = tiny_model(**options)
    guidance = 1.5 if segments_alone(model) else 0.0
    facts = export_onnx(model, Inference(("a", "b", "c"), 64, guidance=guidance), tmp_path, {})
    assert facts.size_multiple == (1 if model.fusion is None else 32)
    images, sizes = stack(6, 64), [(64, 64)] * 6
    theirs, own = (Predictor(m, 64, chunk=4, guidance=guidance) for m in (model, OnnxModel(tmp_path)))
    assert ssnm.from_pretrained(tmp_path, "cpu").predictor.guidance == guidance
    wanted, found = (p.predict_tensors(images, sizes).probabilities for p in (theirs, own))
    np.testing.assert_allclose(found, wanted, atol=LARGEST_DIFFERENCE)
    network = OnnxModel(tmp_path).network
    np.testing.assert_allclose(network((images.float() / 255).numpy())[0], wanted, atol=LARGEST_DIFFERENCE)
    two = [p.predict_groups(images.unflatten(0, (2, 3)), [sizes[:3]] * 2) for p in (theirs, own)]
    for ours, correct in zip(two[1], two[0], strict=True):
        np.testing.assert_allclose(ours.probabilities, correct.probabilities, atol=LARGEST_DIFFERENCE)
    if model.fusion is not None:
        with pytest.raises(DataError, match="multiples of 32, got 70x70"):
            Predictor(OnnxModel(tmp_path), 70).predict_tensors(stack(2, 70), sizes[:2])


def test_a_reference_steers_the_group_as_it_does_in_torch(shipped, torch_segmenter):
    images = pictures(3, (96, 96))
    mask = np.zeros((96, 96), bool)
    mask[30:70, 20:60] = True
    results = [s.segment(images, reference={0: mask}) for s in (torch_segmenter, ssnm.from_pretrained(shipped))]
    for wanted, found in zip(results[0].probabilities, results[1].probabilities, strict=True):
        np.testing.assert_allclose(found, wanted, atol=LARGEST_DIFFERENCE)


@pytest.mark.parametrize("by_folder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_segment_command_writes_the_masks_of_torch(shipped, photos, tmp_path, by_folder):
    """From the exported folder, and from a model file, which it converts."""
    model = ["--checkpoint", str(shipped)] if by_folder else ["--runtime", "onnx"]
    assert main(["segment", str(photos), "--out", str(tmp_path / "onnx"), *model]) == 0
    assert main(["segment", str(photos), "--out", str(tmp_path / "torch"), "--device", "cpu"]) == 0
    for name in ("0.png", "1.png", "2.png"):
        found, wanted = (read_binary(tmp_path / kind / "masks" / name).object for kind in ("onnx", "torch"))
        assert (found != wanted).mean() < 0.002


def test_the_network_runs_without_torch(shipped):
    code = (
        "import sys, numpy as np\n"
        "from ssnm.coseg.onnx.network import OnnxNetwork\n"
        "maps, agreed = OnnxNetwork(sys.argv[1])(np.random.rand(2, 3, 96, 96).astype(np.float32))\n"
        "print(maps.shape, len(agreed), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(shipped)], capture_output=True, text=True, check=True,
                          env=os.environ)  # fmt: skip
    assert done.stdout.split("\n")[0] == "(2, 96, 96) 2 False"


@pytest.mark.slow
def test_8_bits_stay_close_to_32_and_are_a_third_of_the_size(shipped, photos, tmp_path, capsys):
    command = ["export", "default", str(tmp_path / "int8"), "--format", "onnx", "--int8", "--calibration", str(photos)]
    assert main(command) == 0
    assert "3 images in 1 group\n" in capsys.readouterr().out
    whole, small = (sum(f.stat().st_size for f in (folder / "encoder.onnx", folder / "head.onnx"))
                    for folder in (shipped, tmp_path / "int8"))  # fmt: skip
    assert small < 0.45 * whole
    images = (stack(3, 96).float() / 255).numpy()
    exact, close = (ssnm.from_pretrained(f).predictor.model.network(images)[0] for f in (shipped, tmp_path / "int8"))
    assert 0 < np.abs(exact - close).mean() < 0.1


@pytest.mark.parametrize("options, said", [
    (["--int8"], "--calibration DIR"), (["--half"], "--half is for"), (["--calibration", "."], "go together"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_told(tmp_path, capsys, options, said):
    assert main(["export", "default", str(tmp_path / "out"), "--format", "onnx", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_file_name_where_a_folder_is_written_is_told(tmp_path, capsys):
    assert main(["export", "default", str(tmp_path / "model.onnx"), "--format", "onnx"]) == 2
    assert "is a folder of several files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("semantic", "guidance", "line"), [({}, "much", "got .much."), (None, 1.5, "guidance 1.5 needs a semantic")]
)
def test_a_guidance_that_the_model_cannot_have_is_refused(tiny_model, tmp_path, semantic, guidance, line):
    from ssnm.coseg.files import Inference
    from ssnm.coseg.onnx.export import export_onnx

    export_onnx(tiny_model(semantic=semantic), Inference(("a", "b", "c"), 64), tmp_path, {})
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["inference"]["guidance"] = guidance
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match=f"{tmp_path.name}: .*{line}"):
        ssnm.from_pretrained(tmp_path, "cpu")


def test_a_folder_that_is_not_whole_or_is_damaged_is_an_error_that_names_it(shipped, tmp_path):
    with pytest.raises(MissingFileError, match="model.json is not there"):
        ssnm.from_pretrained(tmp_path)
    for name, damage, said in [
        ("model.json", "{}", "does not describe"), ("encoder.onnx", "x", "cannot be read as an ONNX graph"),
        ("modulator.npz", "x", "does not hold the modulators"),
    ]:  # fmt: skip
        broken = tmp_path / name.partition(".")[0]
        broken.mkdir()
        for file in shipped.iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        (broken / name).write_text(damage)
        with pytest.raises(CheckpointError, match=said):
            ssnm.from_pretrained(broken)
    facts = json.loads((shipped / "model.json").read_text())
    assert (facts["opset"], facts["precision"]) == (18, "float32")


def test_runtimes_and_devices_that_do_not_fit_are_told(shipped):
    with pytest.raises(ConfigError, match="torch does not run"):
        ssnm.from_pretrained(shipped, runtime="torch")
    with pytest.raises(ConfigError, match="runtime must be one of torch, onnx"):
        ssnm.from_pretrained(runtime="tensorrt")
    with pytest.raises(ConfigError, match="works on the CPU"):
        ssnm.from_pretrained(shipped, device="cuda")


def test_without_the_extra_the_message_names_it(shipped, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"onnxruntime: pip install -e \"\.\[onnx\]\""):
        ssnm.from_pretrained(shipped)
