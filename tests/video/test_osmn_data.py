"""Where training samples come from and what is in one: sources, hold-out, sampler, determinism, guides."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssnm.data.augment import Augmentation
from ssnm.errors import ConfigError, DataError, MissingFileError
from ssnm.methods import load_config
from ssnm.video.build import guide_rules
from ssnm.video.data import GuideRules, Pool, SampleDataset, SampleDraw, StepSampler, collate, make_sample, split
from ssnm.video.guides import gaussian_guide
from ssnm.video.images import coco_tracks, processed_tracks, voc_tracks
from ssnm.video.procedural import procedural_tracks, render_frame
from ssnm.video.tracks import PackedMask
from ssnm.video.videos import davis_tracks, is_good_guide, only_where_seen, youtube_vos_tracks

CONFIGS = Path(__file__).parents[2] / "configs"
STILL = Augmentation(flip=0.0)
PLAIN = GuideRules(side=32, crop=0, angle=0, flip=0, centre=0, spread=0)


def rng(seed=0):
    return np.random.default_rng(seed)


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array.astype(np.uint8))
    if palette:
        image.putpalette(sum(([i, i, i] for i in range(256)), []))
    image.save(path)


def picture(seed=0, size=(40, 60)):
    return rng(seed).integers(0, 256, (*size, 3))


def ids(*boxes, size=(40, 60)):
    mask = np.zeros(size, np.uint8)
    for k, (top, left, bottom, right) in enumerate(boxes):
        mask[top:bottom, left:right] = k + 1
    return mask


# --- Sources ------------------------------------------------------------------------------------------------------


def test_voc_has_a_track_per_connected_piece_and_knows_void(tmp_path):
    labels = np.where(ids((2, 2, 20, 20), (2, 30, 20, 50)) > 0, 12, 0)  # two dogs of one class
    labels[30:, :] = 255
    labels[0, 59] = 12  # one pixel: too small
    save(tmp_path / "JPEGImages" / "a.jpg", picture())
    save(tmp_path / "SegmentationClass" / "a.png", labels, palette=True)
    tracks = voc_tracks(tmp_path, None, 0.03)
    assert [t.video for t in tracks] == ["a", "a"] and len({t.name for t in tracks}) == 2
    assert sorted(np.flatnonzero(t.mask(0).any(0))[0] for t in tracks) == [2, 30]
    assert tracks[0].void(0).sum() == 600 and len(tracks[0]) == 1


def test_voc_s_own_instances_are_taken_where_they_are(tmp_path):
    save(tmp_path / "JPEGImages" / "a.jpg", picture())
    save(tmp_path / "SegmentationObject" / "a.png", ids((2, 2, 20, 20), (2, 20, 20, 50)), palette=True)  # they touch
    assert [int(t.mask(0).sum()) for t in voc_tracks(tmp_path, None, 0.03)] == [324, 540]


def coco(tmp_path, annotations, **change):
    save(tmp_path / "images" / "7.jpg", picture())
    content = {"images": [{"id": 7, "file_name": "7.jpg", "height": 40, "width": 60}], "annotations": annotations,
               "categories": [{"id": 1, "name": "cow"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content | change))
    return coco_tracks([tmp_path / "a.json"], tmp_path / "images", 0.03)


def annotation(number, area, **more):
    polygon = [[5, 5, 25, 5, 25, 25, 5, 25]]
    return {"id": number, "image_id": 7, "area": area, "iscrowd": 0, "category_id": 1, "segmentation": polygon, **more}


def test_coco_leaves_out_crowds_and_small_objects(tmp_path):
    runs = {"size": [40, 60], "counts": [0, 400, 2000]}  # ten columns
    tracks = coco(tmp_path, [annotation(1, 400), annotation(2, 60), annotation(3, 900, iscrowd=1),
                             annotation(4, 400, segmentation=runs)])  # fmt: skip
    assert [t.name for t in tracks] == ["7/1", "7/4"]
    assert tracks[0].mask(0).sum() == 400 and tracks[1].mask(0)[:, :10].all() and tracks[1].mask(0).sum() == 400


@pytest.mark.parametrize("make, error, words", [
    (lambda p: coco(p, [annotation(1, 5)]), DataError, "no object"),
    (lambda p: coco(p, [{"id": 1}]), DataError, "image_id"),
    (lambda p: coco(p, [annotation(1, 400)], images=[{"id": 7, "file_name": "8.jpg", "height": 40, "width": 60}]),
     MissingFileError, "8.jpg"),
    (lambda p: coco_tracks([p / "none.json"], p, 0.03), MissingFileError, "none.json"),
    (lambda p: voc_tracks(p, None, 0.03), MissingFileError, "JPEGImages"),
    (lambda p: processed_tracks(p, 0.03), MissingFileError, "image"),
    (lambda p: davis_tracks(p, "2016", "train"), MissingFileError, "ImageSets"),
    (lambda p: youtube_vos_tracks(p, "train"), MissingFileError, "meta.json"),
])  # fmt: skip
def test_sources_say_what_is_wrong_in_one_line(tmp_path, make, error, words):
    with pytest.raises(error, match=words) as raised:
        make(tmp_path)
    assert "\n" not in str(raised.value)


def test_processed_folders_have_instances_or_pieces(tmp_path):
    save(tmp_path / "image" / "cow" / "a.jpg", picture())
    save(tmp_path / "groundtruth" / "cow" / "a.png", (ids((2, 2, 20, 40)) > 0) * 255)
    assert len(processed_tracks(tmp_path, 0.03)) == 1
    save(tmp_path / "instances" / "cow" / "a.png", ids((2, 2, 20, 20), (2, 20, 20, 40)))
    assert [t.video for t in processed_tracks(tmp_path, 0.03)] == ["cow/a"] * 2


@pytest.fixture
def davis(tmp_path):
    """Two sequences of four frames; the second object of `b` is not to be seen in frame 1."""
    for name in ("a", "b"):
        for frame in range(4):
            save(tmp_path / "JPEGImages" / "480p" / name / f"{frame:05d}.jpg", picture(frame))
            boxes = [(2 + frame, 2, 20, 20)] + ([(2, 30, 20, 50)] if name == "b" and frame != 1 else [])
            save(tmp_path / "Annotations" / "480p" / name / f"{frame:05d}.png", ids(*boxes), palette=True)
    for version in ("2016", "2017"):
        (tmp_path / "ImageSets" / version).mkdir(parents=True)
        (tmp_path / "ImageSets" / version / "train.txt").write_text("a\nb\n")
    return tmp_path


def test_davis_has_an_object_per_id_or_one_per_sequence(davis):
    assert [t.name for t in davis_tracks(davis, "2017", "train")] == ["a/1", "b/1", "b/2"]
    tracks = davis_tracks(davis, "2016", "train")
    assert [t.name for t in tracks] == ["a", "b"] and len(tracks[0]) == 4
    assert tracks[1].mask(0).sum() == 18 * 18 + 18 * 20


def test_only_frames_with_the_object_per_object_of_its_own(davis):
    tracks = only_where_seen(davis_tracks(davis, "2017", "train"))
    assert [len(t) for t in tracks] == [4, 4, 3]  # one object's gap is not the other's
    assert [f.stem for f in tracks[2].files] == ["00000", "00002", "00003"]


def test_youtube_vos_lists_frames_per_object(tmp_path):
    for frame in ("00000", "00005", "00010"):
        save(tmp_path / "train" / "JPEGImages" / "v" / f"{frame}.jpg", picture())
        truth = ids((2, 2, 20, 20), (2, 30, 9, 50))
        save(tmp_path / "train" / "Annotations" / "v" / f"{frame}.png", truth, palette=True)
    frames = ["00000", "00005", "00010"]
    objects = {str(k + 1): {"frames": frames[k:]} for k in range(3)}
    (tmp_path / "train" / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    tracks = youtube_vos_tracks(tmp_path, "train")
    assert [(t.name, len(t)) for t in tracks] == [("v/1", 3), ("v/2", 2)] and tracks[1].mask(0).sum() == 140
    (tmp_path / "train" / "meta.json").write_text('{"videos": []}')
    with pytest.raises(DataError, match="meta.json"):
        youtube_vos_tracks(tmp_path, "train")


def test_a_good_guide_is_large_and_fills_its_box():
    assert is_good_guide(ids((2, 2, 20, 20)) > 0, 0.003, 0.2)
    assert not is_good_guide(ids((2, 2, 4, 5)) > 0, 0.003, 0.2)
    assert not is_good_guide(np.eye(40, 60) > 0, 0.003, 0.2) and not is_good_guide(np.zeros((40, 60)), 0.003, 0.2)


def test_packed_masks_come_back():
    for mask in (ids((3, 5, 21, 44)) > 0, np.zeros((7, 9), bool), rng().random((13, 17)) > 0.5):
        assert np.array_equal(PackedMask.of(mask)(), mask)


def test_procedural_videos_move_and_hold_a_twin_of_the_first_object():
    tracks = procedural_tracks(2, 4, 48, "seen", 0)
    assert len(tracks) == 8 and len({t.name for t in tracks}) == 8
    assert {t.video for t in tracks[:4]} == {tracks[0].video} != {tracks[4].video}
    first, later = (render_frame(0, frame, 48, "seen", 0) for frame in (0, 3))
    assert not np.array_equal(first[1], later[1]) and set(np.unique(first[1])) == {0, 1, 2, 3, 4}
    colours = [first[0][first[1] == k].mean(axis=0) for k in (1, 2, 3)]
    assert np.abs(colours[0] - colours[1]).max() < np.abs(colours[0] - colours[2]).max()
    assert np.array_equal(tracks[1].mask(3), later[1] == 2)
    render_frame.cache_clear()
    assert np.array_equal(render_frame(0, 3, 48, "seen", 0)[0], later[0])


# --- Samples --------------------------------------------------------------------------------------------------------


def test_the_spatial_guide_is_of_the_previous_mask_and_the_target_of_this_frame(davis):
    track = davis_tracks(davis, "2017", "train")[0]
    sample = make_sample(track, 2, (60, 40), PLAIN, STILL, rng())
    np.testing.assert_allclose(sample["spatial_guides"], gaussian_guide(track.mask(1)))
    assert np.array_equal(sample["masks"].numpy() > 0, track.mask(2)) and sample["valid"].all()
    assert np.array_equal(sample["images"].permute(1, 2, 0).mul(255).round().numpy(), track.image(2))
    assert sample["visual_guides"].shape == (3, 32, 32) and sample["visual_masks"].all()


def test_a_single_image_guides_itself_after_its_flip(tmp_path):
    save(tmp_path / "JPEGImages" / "a.png", picture())
    save(tmp_path / "SegmentationObject" / "a.png", ids((2, 2, 20, 20)), palette=True)
    track = voc_tracks(tmp_path, None, 0.03)[0]
    sample = make_sample(track, 0, (60, 40), PLAIN, Augmentation(flip=1.0), rng())
    flipped = track.mask(0)[:, ::-1]
    assert np.array_equal(sample["masks"].numpy() > 0, flipped)
    np.testing.assert_allclose(sample["spatial_guides"], gaussian_guide(flipped))
    straight = make_sample(track, 0, (60, 40), PLAIN, STILL, rng())
    assert torch.equal(sample["visual_guides"], straight["visual_guides"])  # the guide's flip is drawn by itself


def test_guides_may_come_from_a_random_good_frame(davis):
    track = davis_tracks(davis, "2017", "train")[0]
    first = make_sample(track, 3, (60, 40), PLAIN, STILL, rng())["visual_guides"]
    rules = GuideRules(side=32, crop=0, angle=0, flip=0, random_frame=True)
    found = [make_sample(track, 3, (60, 40), rules, STILL, rng(seed))["visual_guides"] for seed in range(20)]
    assert len({f.numpy().tobytes() for f in found}) > 2
    assert any(torch.equal(f, first) for f in found)


def test_guides_may_be_lost_or_astray_while_the_rest_of_the_sample_stays(davis):
    track = davis_tracks(davis, "2017", "train")[0]
    right = make_sample(track, 3, (60, 40), PLAIN, STILL, rng())
    changes = ["guides.side=32", *(f"guides.{name}=0" for name in ("crop", "angle", "flip")), "guides.colour=false"]
    rules = guide_rules(load_config(CONFIGS / "osmn_small_3.yaml", [*changes, "guides.lost=0.4", "guides.astray=0.3"]))
    rules = replace(rules, random_frame=False)
    found = [make_sample(track, 3, (60, 40), rules, STILL, rng(seed)) for seed in range(200)]
    for name in ("images", "masks", "visual_guides", "visual_masks"):
        assert all(torch.equal(f[name], right[name]) for f in found)
    guides = torch.stack([f["spatial_guides"] for f in found])
    blank = guides.flatten(1).amax(1) == 0
    peaks = guides[~blank].flatten(1).argmax(1)  # the object's own guide moves by less than its spread
    y, x = divmod(int(right["spatial_guides"].argmax()), 60)
    far = ((peaks // 60 - y).abs() > 10) | ((peaks % 60 - x).abs() > 10)
    assert 0.3 < blank.float().mean() < 0.5 and 0.15 < far.sum() / 200 < 0.4


def pool(count=6, frames=4):
    tracks = procedural_tracks(count, frames, 32, "seen", 0)
    return Pool(tracks, [1.0] * len(tracks))


def test_a_sample_is_a_function_of_its_draw():
    dataset = SampleDataset(pool(), GuideRules(side=32), Augmentation())
    draw = SampleDraw(3, 2, (32, 24), (0, 5, 1))
    first, again, other = (dataset[d][0] for d in (draw, draw, SampleDraw(3, 2, (32, 24), (0, 5, 2))))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
    batch = collate([dataset[draw], dataset[draw]])
    assert batch.images.shape == (2, 3, 24, 32) and batch.num_images == 2 and batch.names[0][0].endswith("/00002")


def test_an_epoch_has_every_sample_once_and_a_step_one_size():
    p = pool(3, 3)
    sampler = StepSampler(p, 4, [(32, 32), (48, 32)], 0, 0, 12)
    steps = list(sampler)
    assert len(p.samples) == 24 and sampler.epoch_steps == 6
    for epoch in (steps[:6], steps[6:]):
        assert sorted((d.track, d.frame) for step in epoch for d in step) == sorted(s[:2] for s in p.samples)
    assert all(len({d.size for d in step}) == 1 for step in steps) and len({s[0].size for s in steps}) == 2
    assert [d.track for d in steps[0]] != [d.track for d in steps[6]]


def test_weights_below_one_give_every_epoch_the_same_share_of_the_samples():
    """Weights of 0.3: 7 of 24 samples an epoch, each about as often as any other over many epochs."""
    whole = pool(3, 3)
    light = Pool(whole.tracks, [0.3] * len(whole.tracks))
    sampler = StepSampler(light, 7, [(32, 32)], 0, 0, 1000)
    assert sampler.epoch_steps == 1
    drawn = Counter((d.track, d.frame) for step in sampler for d in step)
    assert set(drawn) == {s[:2] for s in light.samples} and all(0.7 < n / (7000 / 24) < 1.3 for n in drawn.values())


def test_resuming_and_processes_see_the_samples_of_one_run():
    whole = list(StepSampler(pool(), 4, [(32, 32)], 3, 0, 10))
    assert list(StepSampler(pool(), 4, [(32, 32)], 3, 4, 10)) == whole[4:]
    shares = [list(StepSampler(pool(), 4, [(32, 32)], 3, 0, 10, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares)] == whole
    parts = list(StepSampler(pool(), 4, [(32, 32)], 3, 0, 10, accumulate=2))
    assert [parts[2 * k] + parts[2 * k + 1] for k in range(10)] == whole


def test_weights_are_how_often_a_sample_comes():
    tracks = procedural_tracks(1, 2, 32, "seen", 0)
    sampler = StepSampler(Pool(tracks, [2.0, 1.0, 1.0, 0.5]), 1, [(32, 32)], 0, 0, 4 * 200)
    counts = np.bincount([d.track for step in sampler for d in step], minlength=4)
    assert counts[0] > 1.6 * counts[1] and 0.3 * counts[1] < counts[3] < 0.7 * counts[1]
    sampler = StepSampler(Pool(tracks, [2.0, 1.0, 0.5, 0.5]), 1, [(32, 32)], 0, 0, 4 * 200)
    counts = np.bincount([d.track for step in sampler for d in step], minlength=4)
    assert counts[:2].tolist() == [400, 200] and 60 < counts[2] < 140 and counts[2] + counts[3] == 200


@pytest.mark.parametrize("batch, world, words", [(3, 2, "a multiple of processes"), (100, 1, "fewer than")])
def test_batches_that_cannot_be_are_said(batch, world, words):
    with pytest.raises(ConfigError, match=words):
        StepSampler(pool(2, 2), batch, [(32, 32)], 0, 0, 1, 0, world)


def test_whole_videos_are_held_out():
    training, held = split(pool(10), ["video_seen_0_00003"], 0.4, 0)
    videos = {t.video for t in held.tracks}
    assert "video_seen_0_00003" in videos and len(videos) > 1 and not videos & {t.video for t in training.tracks}
    with pytest.raises(ConfigError, match="nobody"):
        split(pool(2), ["nobody"], 0, 0)
    with pytest.raises(ConfigError, match="nothing to train on"):
        split(pool(1), ["video_seen_0_00000"], 0, 0)


def test_a_later_stage_holds_out_what_an_earlier_one_did():
    def held(count: int, seed: int = 0) -> set[str]:
        return {t.video for t in split(pool(count), [], 0.4, seed)[1].tracks}

    known = {t.video for t in pool(8).tracks}
    assert held(8) == held(20) & known and held(20) not in (set(), held(20, seed=1))


def test_a_sample_that_cannot_be_read_is_replaced_and_told(davis):
    tracks = davis_tracks(davis, "2017", "train")
    (davis / "JPEGImages" / "480p" / "a" / "00002.jpg").write_bytes(b"no image")
    dataset = SampleDataset(Pool(tracks, [1.0] * 3), PLAIN, STILL)
    tensors, names, bad = dataset[SampleDraw(0, 2, (60, 40), (0, 0, 0))]
    assert len(bad) >= 1 and bad[0].image.endswith("a/00002.jpg") and not names[0].endswith("a/00002.jpg")
    assert tensors["images"].shape == (3, 40, 60)
