"""Fixtures for every test: devices, the folder of real data, small models."""

import os
from pathlib import Path

import pytest
import torch

from ssnm.cli import main
from ssnm.coseg.model import SSNM, SpatialModulator
from ssnm.data.procedural import write_procedural
from ssnm.data.procedural_kinds import SEEN_KINDS
from ssnm.nn.backbones import Backbone

TINY_BACKBONE = "mobilenetv2_035"  # channels 8, 16, 32, 112
TINY_CONFIG = """\
model:
  dim: 8
  backbone: {name: mobilenetv2_035, weights: none}
  semantic: {image_dim: 8, group_dim: 4}
data:
  sources:
    - {type: procedural, num_images: 60, kinds: seen}
  size: 32
  group_size: 3
  holdout: 0.3
  workers: 0
train: {steps: 4, batch_groups: 2, log_every: 1, lr: 1e-3, ema: 0.5}
validation: {every: 2, groups: 2, two_category_images: 2, pictures: 1}
"""
torch.set_num_threads(1)  # small networks: threads cost more than they give, all the more beside other processes
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in two processes where pytest-xdist is installed, a file in one of them; `-n 0`: in one."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    in_process = hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist")
    if whole and not in_process and config.option.numprocesses is None:
        config.option.numprocesses, config.option.dist = 2, "loadfile"


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """The CPU, and the accelerator where there is one."""
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def ssnm_data() -> Path:
    """The folder of real data, or a skipped test where SSNM_DATA does not name one."""
    root = os.environ.get("SSNM_DATA")
    if not root:
        pytest.skip("SSNM_DATA is not set: real images are needed")
    return Path(root)


@pytest.fixture
def tiny_model():
    """A factory of small networks in eval mode, the same weights for the same arguments."""

    def make(backbone: Backbone | str = TINY_BACKBONE, num_categories: int = 3, **options) -> SSNM:
        torch.manual_seed(0)
        net = Backbone(backbone) if isinstance(backbone, str) else backbone
        options = dict(dim=16, spatial=SpatialModulator(), semantic=dict(image_dim=8, group_dim=4)) | options
        return SSNM(net, num_categories, **options).eval()

    return make


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Path:
    """A config of a training of seconds on procedural pictures; the name of its run folder would be runs/tiny."""
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(TINY_CONFIG)
    return path


@pytest.fixture(scope="session")
def trained_run(tiny_config, tmp_path_factory) -> Path:
    """The run folder that `ssnm train` leaves for the tiny config. Read only: every test gets the same folder."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(tiny_config), "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="session")
def checkpoint(trained_run) -> Path:
    """A real training checkpoint of a tiny network."""
    return trained_run / "checkpoints" / "best.pt"


@pytest.fixture(scope="session")
def written_set(tmp_path_factory) -> Path:
    """A procedural test set on disk: 3 classes of 4 images, 40 x 56 pixels (height, width). Read only."""
    root = tmp_path_factory.mktemp("test_set") / "root"
    return write_procedural(root, kinds=SEEN_KINDS[:3], images_per_kind=4, size=(40, 56), seed=3)
