"""Images of any kind, any size, any number -> probabilities."""

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.coseg.model import SpatialModulator
from ssnm.coseg.predict import Predictor, resize_probability
from ssnm.coseg.records import Modulation
from ssnm.data.procedural import ProceduralSource
from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.files import images as image_files

SIZE = 32


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    source = ProceduralSource(num_images=7, seed=2)
    return [source.render(i, (40 + 2 * i, 50 - i))[0] for i in range(7)]


@pytest.fixture
def predictor(tiny_model) -> Predictor:
    return Predictor(tiny_model(), SIZE)


def maps_of(prediction) -> np.ndarray:
    return prediction.probabilities


def test_maps_have_the_original_size_of_each_image(predictor, arrays):
    prediction = predictor.predict(arrays)
    assert [prediction.probability(i).shape for i in range(7)] == [a.shape[:2] for a in arrays]
    assert all(0 <= prediction.probability(i).min() <= prediction.probability(i).max() <= 1 for i in range(7))


def test_the_predictor_gives_what_the_network_gives(predictor, arrays):
    prediction = predictor.predict(arrays[:3])
    resized = [np.array(Image.fromarray(a).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for a in arrays[:3]]
    images = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        output = predictor.model(images[None])
    np.testing.assert_allclose(maps_of(prediction), output.mask_logits[0].sigmoid().numpy(), atol=1e-6)
    np.testing.assert_allclose(prediction.spatial_masks, output.modulation.spatial_mask[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(prediction.semantic_vector, output.modulation.semantic_vector[0].numpy(), atol=1e-5)
    probabilities = output.modulation.category_logits[0].sigmoid().numpy()
    np.testing.assert_allclose(prediction.category_probabilities, probabilities, atol=1e-6)


@pytest.mark.parametrize("spatial, semantic", [(True, True), (False, True), (True, False), (False, False)])
@pytest.mark.parametrize("chunk", [1, 2, 6])
def test_a_group_in_chunks_equals_one_call(tiny_model, arrays, chunk, spatial, semantic):
    options = dict(spatial=SpatialModulator() if spatial else None)
    options |= {} if semantic else {"semantic": None}
    model = tiny_model(**options)
    whole = Predictor(model, SIZE, chunk=20).predict(arrays)
    parts = Predictor(model, SIZE, chunk=chunk).predict(arrays)
    np.testing.assert_allclose(maps_of(parts), maps_of(whole), atol=1e-5)
    if spatial:
        np.testing.assert_allclose(parts.spatial_masks, whole.spatial_masks, atol=1e-4)
    if semantic:
        np.testing.assert_allclose(parts.semantic_vector, whole.semantic_vector, atol=1e-5)


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_maps_are_kept_within_the_budget_and_made_again_beyond_it(tiny_model, arrays, kept):
    """7 images in chunks of 2: when the backbone is called again, at most the maps of `kept` chunks are alive."""
    whole = Predictor(tiny_model(), SIZE, chunk=20).predict(arrays)
    predictor = Predictor(tiny_model(), SIZE, chunk=2)
    backbone, alive, counts = predictor.model.backbone, [], []
    of_chunk = sum(m.numel() * 4 for m in backbone(torch.zeros(2, 3, SIZE, SIZE)))
    predictor.feature_bytes = kept * of_chunk

    def watch(module, inputs, maps):
        counts.append(sum(ref() is not None for ref in alive) // len(maps))
        alive.extend(weakref.ref(m) for m in maps)

    backbone.register_forward_hook(watch)
    np.testing.assert_allclose(maps_of(predictor.predict(arrays)), maps_of(whole), atol=1e-5)
    assert len(counts) == 4 + 4 - kept
    assert max(counts) <= kept


def test_a_photograph_is_decoded_once_whatever_the_scales(tiny_model, arrays, tmp_path, monkeypatch):
    Image.fromarray(arrays[0]).save(tmp_path / "a.jpg")
    opened = []
    open_image = image_files.open_image
    monkeypatch.setattr(image_files, "open_image", lambda *args: (opened.append(1), open_image(*args))[1])
    Predictor(tiny_model(), SIZE, chunk=1, scales=(1.0, 1.5)).predict([tmp_path / "a.jpg"] * 3)
    assert len(opened) == 3


def test_masks_follow_the_images_when_these_are_permuted(predictor, arrays):
    order = [3, 0, 6, 1, 5, 2, 4]
    straight, permuted = predictor.predict(arrays), predictor.predict([arrays[i] for i in order])
    np.testing.assert_allclose(maps_of(permuted), maps_of(straight)[order], atol=1e-4)


def test_several_groups_in_one_call_equal_one_by_one(predictor, arrays):
    read = [predictor.read(a) for a in arrays[:6]]
    stack = torch.stack([r[0] for r in read]).unflatten(0, (2, 3))
    together = predictor.predict_groups(stack, [[r[2] for r in read[:3]], [r[2] for r in read[3:]]])
    for prediction, images in zip(together, (arrays[:3], arrays[3:6])):
        alone = predictor.predict(images)
        assert prediction.sizes == alone.sizes
        np.testing.assert_allclose(maps_of(prediction), maps_of(alone), atol=1e-5)
        np.testing.assert_allclose(prediction.spatial_masks, alone.spatial_masks, atol=1e-4)


def test_one_image_is_a_group(predictor, arrays):
    assert predictor.predict(arrays[:1]).probability(0).shape == arrays[0].shape[:2]


def test_no_image_is_an_error(predictor):
    with pytest.raises(DataError, match="at least 1 image"):
        predictor.predict([])


def test_a_single_image_in_place_of_a_list_is_an_error(predictor, arrays, tmp_path):
    for image in ("photo.jpg", tmp_path / "photo.jpg", arrays[0], Image.fromarray(arrays[0])):
        with pytest.raises(DataError, match="list of images"):
            predictor.predict(image)


def test_a_broken_file_is_named(predictor, arrays, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    with pytest.raises(DataError, match="broken.jpg"):
        predictor.predict([arrays[0], tmp_path / "broken.jpg"])
    with pytest.raises(MissingFileError, match="absent.jpg"):
        predictor.predict([arrays[0], tmp_path / "absent.jpg"])


def test_progress_reaches_the_number_of_images(tiny_model, arrays):
    for chunk in (2, 20):
        seen = []
        Predictor(tiny_model(), SIZE, chunk=chunk).predict(arrays, seen.append)
        assert seen[-1] == 7 and seen == sorted(seen)


class FixedGroups(torch.nn.Module):
    """A network for groups of 3 at 24 x 24 that takes grey flags: its map is 1 - the grey flag everywhere."""

    fixed_group_size, fixed_size = 3, 24

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, []

    def backbone(self, images, grey):
        self.calls.append((tuple(images.shape), grey.tolist()))
        return self.network.backbone(images)

    def encode(self, cfms):
        return self.network.encode(cfms)

    def modulate(self, codes, group_size):
        return self.network.modulate(codes, group_size)

    def segment(self, cfms, modulation, size):
        return self.network.segment(cfms, modulation, size)


def test_a_model_of_fixed_group_size_gets_groups_filled_up_with_the_first_images(tiny_model, arrays):
    model = FixedGroups(tiny_model())
    grey = np.full((20, 30), 90, np.uint8)
    prediction = Predictor(model, 999).predict([grey, *arrays[1:5]])
    assert [shape for shape, _ in model.calls] == [(3, 3, 24, 24)] * 2
    assert [flags for _, flags in model.calls] == [[True, False, False], [False, False, True]]
    assert maps_of(prediction).shape == (5, 24, 24) and prediction.spatial_masks.shape[0] == 5


def test_maps_are_resized_bilinearly():
    row = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(resize_probability(row, (1, 4)), [[0, 0.25, 0.75, 1]])


# Guidance


@pytest.mark.parametrize("chunk", [2, 9])
def test_guidance_goes_on_from_what_is_said_of_every_image_alone(tiny_model, arrays, chunk):
    model = tiny_model()
    predictors = {g: Predictor(model, SIZE, chunk=chunk, guidance=g) for g in (0.0, 1.5)}
    logits = {g: torch.logit(torch.from_numpy(maps_of(p.predict(arrays[:3])))) for g, p in predictors.items()}
    resized = [np.array(Image.fromarray(a).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for a in arrays[:3]]
    images = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        cfms = model.backbone(images)
        group = model.modulate(model.encode(cfms), 3)
        alone = []
        for i in range(3):  # one image after the other: its own gamma, its part of the group's spatial mask
            own = [m[i : i + 1] for m in cfms]
            gamma = model.modulate(model.encode(own), 1).semantic_vector
            alone.append(model.segment(own, Modulation(group.spatial_mask[:, i : i + 1], gamma), (SIZE, SIZE)))
    wanted = logits[0.0] + 1.5 * (logits[0.0] - torch.cat(alone))
    assert (logits[1.5] - logits[0.0]).abs().max() > 1e-3
    torch.testing.assert_close(logits[1.5], wanted, rtol=1e-3, atol=1e-3)


def test_guidance_changes_nothing_of_an_image_alone_and_is_that_of_groups_in_a_batch(tiny_model, arrays):
    model = tiny_model()
    plain, guided = Predictor(model, SIZE), Predictor(model, SIZE, guidance=1.0)
    np.testing.assert_array_equal(maps_of(plain.predict(arrays[:1])), maps_of(guided.predict(arrays[:1])))
    stack = torch.stack([guided.read(a)[0] for a in arrays[:4]])
    sizes = [[(SIZE, SIZE)] * 2] * 2
    both = guided.predict_groups(stack.unflatten(0, (2, 2)), sizes)
    one = guided.predict_tensors(stack[2:], sizes[0])
    np.testing.assert_allclose(maps_of(both[1]), maps_of(one), atol=1e-5)


@pytest.mark.parametrize("options", [{"semantic": None}, {"semantic": {"centred": True}}])
def test_guidance_needs_a_model_that_segments_an_image_alone(tiny_model, options):
    with pytest.raises(ConfigError, match="guidance 1 needs a model that can segment an image alone"):
        Predictor(tiny_model(**options), SIZE, guidance=1.0)
    with pytest.raises(ConfigError, match="got nan"):
        Predictor(tiny_model(), SIZE, guidance=float("nan"))
    assert Predictor(tiny_model(), SIZE, guidance=np.float32(1.5)).guidance == 1.5


# Several scales


def test_several_scales_are_averaged_at_network_size(tiny_model, arrays):
    model = tiny_model()
    both = Predictor(model, SIZE, scales=(1.0, 1.5)).predict(arrays[:3])
    maps = []
    for size in (32, 48):
        resized = [np.array(Image.fromarray(a).resize((size, size), Image.Resampling.BILINEAR)) for a in arrays[:3]]
        images = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            cfms = model.backbone(images)
            logits = model.segment(cfms, model.modulate(model.encode(cfms), 3), (SIZE, SIZE))
        maps.append(logits.sigmoid().numpy())
    np.testing.assert_allclose(maps_of(both), np.mean(maps, axis=0), atol=1e-5)
    assert both.spatial_masks.shape == Predictor(model, SIZE).predict(arrays[:3]).spatial_masks.shape


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 9.0)])
def test_impossible_scales_are_refused(tiny_model, scales):
    with pytest.raises(ConfigError, match="scales must lie in"):
        Predictor(tiny_model(), SIZE, scales=scales)
