"""torch.export: one program for any number of groups and of images in them."""

import pytest
import torch

from ssnm.coseg.model import SpatialModulator


@pytest.mark.slow  # .ci/run has a line for it
def test_an_exported_network_takes_any_number_of_images(tiny_model, tmp_path):
    """From 2 images of 2x2 descriptors (a dense problem) to 64 (a reduced one)."""
    model = tiny_model("resnet10t", spatial=SpatialModulator("border"))
    images = torch.export.Dim("images", min=2, max=4096)
    groups = torch.export.Dim("groups", min=2, max=64)
    example = torch.rand(2, 5, 3, 64, 64)
    program = torch.export.export(model, (example,), dynamic_shapes={"images": {0: groups, 1: images}})
    torch.export.save(program, tmp_path / "network.pt2")
    loaded = torch.export.load(tmp_path / "network.pt2").module()
    for shape in ((2, 2), (3, 7), (2, 64)):
        group = torch.rand(*shape, 3, 64, 64)
        given, wanted = loaded(group), model(group)
        torch.testing.assert_close(given.mask_logits, wanted.mask_logits)
        torch.testing.assert_close(given.modulation.spatial_mask, wanted.modulation.spatial_mask)
