"""A group steered by images whose object is known."""

import numpy as np
import pytest
import torch
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.config.loading import read_yaml
from ssnm.coseg import build
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.predict import Predictor
from ssnm.coseg.presence import PresenceRule
from ssnm.coseg.quality import QualityRule
from ssnm.coseg.reference import encode_reference, modulate_by_reference, side_of_object
from ssnm.data.procedural import ProceduralSource
from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.metrics.ranking import cell_shares
from ssnm.nn.resize import resize_area

SIZE = 32


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    source = ProceduralSource(num_images=5, seed=2)
    return [source.render(i, (40 + 2 * i, 50 - i))[0] for i in range(5)]


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return ssnm.from_pretrained(checkpoint, "cpu")


def mask_of(picture: np.ndarray, rows: slice = slice(0, 20)) -> np.ndarray:
    mask = np.zeros(picture.shape[:2], bool)
    mask[rows, 5:30] = True
    return mask


def test_the_referenced_image_s_result_is_the_mask_and_the_others_follow_it(segmenter, pictures):
    mask = mask_of(pictures[1])
    plain = segmenter.segment(pictures)
    steered = segmenter.segment(pictures, reference={1: mask.astype(np.uint8) * 255})
    np.testing.assert_array_equal(steered.masks[1], mask)
    np.testing.assert_array_equal(steered.probabilities[1], mask.astype(np.float32))
    assert np.abs(steered.prediction.probabilities[0] - plain.prediction.probabilities[0]).max() > 1e-4
    other = segmenter.segment(pictures, reference={1: mask_of(pictures[1], slice(25, 40))})
    assert np.abs(steered.prediction.probabilities[0] - other.prediction.probabilities[0]).max() > 1e-5
    by_name = segmenter.segment(pictures, reference={"image_0002": mask})
    np.testing.assert_array_equal(by_name.prediction.probabilities, steered.prediction.probabilities)


@pytest.mark.parametrize("chunk", [1, 2, 20])
def test_every_reference_counts_and_is_present_whatever_the_chunks(tiny_model, pictures, chunk):
    rules = dict(presence=PresenceRule(1.0, 1.0, 1.0, -5.0, cut=0.9), quality=QualityRule(1.0, 1.0, 0.0))
    masks = {0: mask_of(pictures[0]), 3: mask_of(pictures[3])}
    prediction = Predictor(tiny_model(), SIZE, chunk=chunk, **rules).predict(pictures, reference=masks)
    whole = Predictor(tiny_model(), SIZE, chunk=20, **rules).predict(pictures, reference=masks)
    np.testing.assert_allclose(prediction.probabilities, whole.probabilities, atol=1e-5)
    np.testing.assert_allclose(prediction.present, whole.present, atol=1e-5)
    assert prediction.present[[0, 3]].tolist() == [1, 1] and prediction.quality[[0, 3]].tolist() == [1, 1]
    assert prediction.present[1] < 1 and sorted(prediction.given) == [0, 3]
    one = Predictor(tiny_model(), SIZE, **rules).predict(pictures, reference={0: masks[0]})
    assert np.abs(one.semantic_vector - whole.semantic_vector).max() > 1e-6


def test_the_object_s_pixels_alone_make_gamma(tiny_model):
    """What lies outside the mask may change at will: positions outside have no share in the second-order matrix."""
    model = tiny_model()
    cfms = model.backbone(torch.zeros(1, 3, 128, 128))
    cfm = torch.rand(cfms[-1].shape, generator=torch.Generator().manual_seed(0))  # (1, 112, 4, 4)
    mask = np.zeros((40, 40), bool)
    mask[:20, :20] = True  # the four positions of the upper left
    changed = cfm.clone()
    changed[..., 2:, :] += 5
    a, b = (encode_reference(model, part, model.encode(part), 0, mask)
            for part in ([*cfms[:-1], cfm], [*cfms[:-1], changed]))
    torch.testing.assert_close(a.indicators, b.indicators)
    assert a.shares.sum() == 4
    four = model.semantic.image_pooling(cfm[..., :2, :2].flatten(2).transpose(1, 2))
    torch.testing.assert_close(a.indicators, four)


def test_shares_of_positions_are_the_mask_averaged_over_cells():
    mask = torch.rand(1, 1, 24, 36, generator=torch.Generator().manual_seed(1)) > 0.5
    wanted = resize_area(mask.float(), (4, 6))[0, 0].numpy()
    np.testing.assert_allclose(cell_shares(mask[0, 0].numpy(), (4, 6)), wanted, atol=1e-6)


@pytest.mark.parametrize("scale", ["rms", "unit"])
def test_the_spatial_mask_is_positive_on_what_looks_like_the_object(scale):
    generator = torch.Generator().manual_seed(2)
    kinds = torch.randn(2, 6, generator=generator)  # background, object
    labels = torch.rand(3, 5, 5, generator=generator) > 0.6
    phi = kinds[labels.long()].permute(0, 3, 1, 2) + 0.05 * torch.randn(3, 6, 5, 5, generator=generator)
    mask = side_of_object(phi[None], phi[None, :1], labels[None, :1].float(), scale)
    assert mask.shape == (1, 3, 5, 5) and torch.equal(mask[0] > 0, labels)
    assert mask.square().sum().item() == pytest.approx(75 if scale == "rms" else 1, rel=1e-4)
    everything = torch.ones(1, 1, 5, 5)  # a mask without background
    assert side_of_object(phi[None], phi[None, :1], everything, scale).isfinite().all()


@pytest.mark.parametrize("wrong, said", [
    ({"cat.jpg": None}, "no image 'cat.jpg'; the images are image_0001, image_0002"),
    ({7: None}, "no image 7; there are 5, counted from 0"),
    ({-1: None}, "no image -1"),
    ({0: np.zeros((40, 50), bool)}, "reference '0': the mask is empty"),
    ({0: np.full((40, 50), 7, np.uint8)}, "of bool or of 0 and 255"),
    ({0: np.ones((40, 50, 3), bool)}, r"a mask \(H, W\) was expected"),
    ({0: np.ones((50, 40), bool)}, "50 rows of 40 pixels, the upright photograph 40 of 50"),
    ({0: np.ones((40, 50), bool), "image_0001": np.ones((40, 50), bool)}, "two masks"),
])  # fmt: skip
def test_a_reference_that_does_not_fit_is_an_error(segmenter, pictures, wrong, said):
    with pytest.raises(DataError, match=said):
        segmenter.segment(pictures, reference=wrong)


def test_a_name_that_two_images_have_needs_an_index(segmenter, pictures, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pictures[0]).save(tmp_path / folder / "x.png")
    with pytest.raises(DataError, match="2 images are named 'x.png'; give the index"):
        files = [tmp_path / folder / "x.png" for folder in ("a", "b")]
        segmenter.segment(files, reference={"x.png": mask_of(pictures[0])})


def test_the_release_s_model_takes_no_reference(tiny_model, pictures):
    model = tiny_model()
    model.fixed_group_size, model.fixed_size = 5, SIZE
    with pytest.raises(ConfigError, match="a reference needs the paper's variant"):
        Predictor(model, SIZE).predict(pictures, reference={0: mask_of(pictures[0])})


def test_the_command_splits_at_the_last_equals_sign(checkpoint, pictures, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name, picture in zip(("a=b.png", "c.png"), pictures):
        Image.fromarray(picture).save(folder / name)
    mask = mask_of(pictures[0])
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ["segment", str(folder), "--out", str(out), "--checkpoint", str(checkpoint), "--reference"]
    assert main([*words, f"a=b.png={tmp_path / 'm.png'}"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out / "masks" / "a=b.png")) == 255, mask)
    capsys.readouterr()
    for wrong, said in (("nothing", "takes IMAGE=MASK"), (f"d.png={tmp_path / 'm.png'}", "no image 'd.png'"),
                        ("c.png=absent.png", "absent.png")):  # fmt: skip
        assert main([*words, wrong]) == 2
        assert said in capsys.readouterr().err
    Image.fromarray(np.zeros((42, 49), bool)).save(tmp_path / "empty.png")
    assert main([*words, f"c.png={tmp_path / 'empty.png'}"]) == 2
    assert "the mask is empty" in capsys.readouterr().err


def test_a_reference_s_image_that_cannot_be_read_is_an_error_where_others_are_left_out(segmenter, pictures, tmp_path):
    images = [tmp_path / "absent.png", *pictures]
    bad = []
    assert len(segmenter.segment(images, on_bad=bad.append)) == 5 and len(bad) == 1
    with pytest.raises(MissingFileError, match="absent.png"):
        segmenter.segment(images, on_bad=bad.append, reference={0: mask_of(pictures[0])})
    shifted = segmenter.segment(images, on_bad=bad.append, reference={2: mask_of(pictures[1])})
    np.testing.assert_array_equal(shifted.masks[1], mask_of(pictures[1]))  # places after what was left out


def test_training_steers_a_group_as_segmenting_with_a_reference_does(tiny_model):
    """The group that has a reference gets the modulation of the inference path, with a gradient through gamma to the
    backbone; the other group keeps its own."""
    model = tiny_model()
    images = torch.rand(2, 3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    masks = torch.ones(2, 3, SIZE, SIZE)
    masks[1, 2] = 0
    masks[1, 2, :20, 5:30] = 1
    steered, plain = model(images, references=(torch.tensor([-1, 2]), masks)), model(images)
    torch.testing.assert_close(steered.mask_logits[0], plain.mask_logits[0])
    assert (steered.mask_logits[1] - plain.mask_logits[1]).abs().max() > 1e-5
    with torch.no_grad():
        cfms = model.backbone(images[1])
        codes = model.encode(cfms)
        mask = masks[1, 2].numpy() > 0
        expected = modulate_by_reference(model, codes, encode_reference(model, cfms, codes, 2, mask))
    for name in ("spatial_mask", "semantic_vector", "category_logits"):
        torch.testing.assert_close(getattr(steered.modulation, name)[1:], getattr(expected, name), atol=1e-5, rtol=1e-4)
    steered.modulation.semantic_vector[1].sum().backward()
    for part in (model.semantic.image_pooling, model.backbone):
        assert max(float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None) > 0


def test_the_mask_of_a_reference_is_float32_under_autocast(tiny_model):
    images, masks = torch.rand(1, 2, 3, SIZE, SIZE), torch.ones(1, 2, SIZE, SIZE)
    masks[..., :10] = 0
    with torch.autocast("cpu", torch.bfloat16):
        modulation = tiny_model()(images, references=(torch.tensor([0]), masks)).modulation
    assert modulation.spatial_mask.dtype == torch.float32


def test_the_share_of_groups_with_a_reference_reaches_the_network_compiled_or_not(tiny_config):
    config = config_from_dict(read_yaml(tiny_config, ["data.mix.reference=1.0"]))
    batch = next(iter(build.build_loader(config, build.build_pools(config.data)[0], 0))).to("cpu")
    assert (batch.references >= 0).all()
    own = batch.masks[torch.arange(len(batch.references)), batch.references]
    assert own.flatten(1).any(1).all()
    network = build.build_model(config.model, batch.labels.shape[1], "none").eval()
    plain = network(batch.images).mask_logits
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        outputs = [build.group_forward(net, 1)(batch) for net in (network, compiled)]
    torch.testing.assert_close(*(output.mask_logits for output in outputs))
    assert (outputs[0].mask_logits - plain).abs().amax((1, 2, 3)).min() > 1e-6
    assert all(output.exchanged_logits is not None for output in outputs)


def test_a_share_of_references_that_nothing_would_use_is_refused():
    for model in ({"spatial": {"enabled": False}, "semantic": {"enabled": False}}, {"name": "ssnm_release"}):
        with pytest.raises(ConfigError, match="data.mix.reference steers the modulators"):
            config_from_dict({"model": model, "data": {"mix": {"reference": 0.2}}})


def test_who_belongs_is_told_by_the_reference_where_there_is_one(tiny_model):
    """Three of a kind and two of another, one of which is the reference: the other of its kind is there, the majority
    is not."""
    rule = PresenceRule(peak=0.0, agreement=0.0, appearance=1e4, bias=3.0)
    rng = np.random.default_rng(3)
    noise, flat = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8), np.full((40, 48, 3), 250, np.uint8)
    images = [noise, flat, flat, noise, flat]
    predictor = Predictor(tiny_model(), SIZE, presence=rule, chunk=2)
    assert (predictor.predict(images).present > 0.5).tolist() == [False, True, True, False, True]
    steered = predictor.predict(images, reference={0: mask_of(noise)})
    assert (steered.present > 0.5).tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("chunk", [2, 20])
def test_a_group_with_a_reference_has_the_rule_that_was_fitted_to_such_groups(tiny_model, pictures, chunk):
    rule = PresenceRule(0.0, 0.0, 0.0, bias=-3.0, cut=0.5, steered=PresenceRule(0.0, 0.0, 0.0, bias=3.0, cut=0.2))
    assert PresenceRule.from_dict(rule.to_dict()) == rule
    predictor = Predictor(tiny_model(), SIZE, presence=rule, chunk=chunk)
    plain, steered = (predictor.predict(pictures, reference=given) for given in (None, {1: mask_of(pictures[1])}))
    assert (plain.present < 0.1).all() and plain.cut == 0.5
    assert (steered.present > 0.9).all() and steered.cut == 0.2
