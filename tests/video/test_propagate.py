"""The roll-out: what is yielded, what is fed back, what is computed how often."""

import warnings
import weakref

import numpy as np
import pytest

from ssnm.errors import CheckpointError, ConfigError, DataError
from ssnm.video.frames import Frame
from ssnm.video.prompts import prompts_from
from ssnm.video.segmenter import VideoSegmenter
from ssnm.video.settings import Settings


def run(segmenter, frames, mask, **options):
    return list(segmenter.propagate(frames, mask, **options))


def test_moving_objects_are_followed_with_their_ids(segmenter, clip):
    frames, masks = clip(ids=(3, 200))
    results = run(segmenter, frames, masks[0])
    assert [r.object_ids for r in results] == [(3, 200)] * 5
    assert all((r.ids == mask).all() for r, mask in zip(results, masks))
    assert all(r.probabilities.dtype == np.float32 and r.probabilities.shape == (2, 48, 64) for r in results)


def test_the_first_frame_holds_the_given_mask(segmenter, clip):
    frames, masks = clip(count=1)
    big = np.kron(frames[0], np.ones((3, 3, 1), np.uint8))
    mask = np.kron(masks[0], np.ones((3, 3), np.uint8))
    mask[0, 0] = 2  # lost at network size, kept in the ids
    (result,) = run(segmenter, [big], mask)
    assert (result.ids == mask).all() and result.ids.shape == (144, 192)
    assert result.probabilities.shape == (2, 48, 64) and set(np.unique(result.probabilities)) == {0, 1}


def test_the_given_mask_is_kept_to_the_pixel_where_the_network_is_coarser(segmenter, clip):
    frames, _ = clip(count=1)
    y, x = np.mgrid[:145, :193]
    mask = (np.hypot(y - 61, x - 77) < 33).astype(np.uint8)
    big = np.zeros((145, 193, 3), np.uint8)
    (result,) = run(segmenter, [big], mask)
    assert (result.ids == mask).all()


def test_an_object_that_starts_later_has_its_mask_there_and_none_before(segmenter, clip):
    frames, masks = clip()
    results = run(segmenter, frames, {0: np.where(masks[0] == 1, 1, 0), 2: masks[2]})
    assert [r.object_ids for r in results] == [(1,), (1,), (1, 2), (1, 2), (1, 2)]
    assert not (results[1].ids == 2).any()
    assert all((r.ids == mask).all() for r, mask in zip(results[2:], masks[2:]))


def test_frames_before_the_first_object_are_background(segmenter, clip):
    frames, masks = clip()
    results = run(segmenter, frames, {2: masks[2]})
    assert results[0].object_ids == () and results[0].probabilities.shape == (0, 48, 64)
    assert not results[0].ids.any() and (results[4].ids == masks[4]).all()


def test_frames_may_differ_in_size(segmenter, clip):
    frames, masks = clip()
    frames[2] = np.kron(frames[2], np.ones((2, 2, 1), np.uint8))
    results = run(segmenter, frames, masks[0])
    assert results[2].ids.shape == (96, 128) and results[3].ids.shape == (48, 64)
    assert (results[2].ids == np.kron(masks[2], np.ones((2, 2)))).all() and (results[4].ids == masks[4]).all()


def test_visual_guides_are_made_once_per_object_and_a_frame_is_passed_once(segmenter, network, clip):
    frames, masks = clip()
    run(segmenter, frames, masks[0])
    assert network.calls == {"scales": 2, "segment": 4}


def test_objects_do_not_depend_on_each_other(segmenter, clip):
    frames, masks = clip()
    both = run(segmenter, frames, masks[0])
    alone = run(segmenter, frames, np.where(masks[0] == 2, 2, 0))
    assert all((b.probabilities[1] == a.probabilities[0]).all() for b, a in zip(both, alone))


def test_an_object_that_leaves_stays_away_and_the_others_go_on(segmenter, clip):
    frames, masks = clip(count=6)
    for t in (3, 4, 5):
        frames[t][masks[t] == 1] = (120, 120, 120)
    results = run(segmenter, frames, masks[0])
    assert not any((r.ids == 1).any() for r in results[3:])
    assert all(((r.ids == 2) == (m == 2)).all() for r, m in zip(results, masks))


def test_size_is_width_and_height_of_the_network(segmenter, clip):
    frames, masks = clip()
    results = run(segmenter, frames, masks[0], size=(40, 24))
    assert results[1].probabilities.shape == (2, 24, 40) and results[1].ids.shape == (48, 64)


def test_errors_are_raised_by_the_call_itself(segmenter, clip):
    frames, masks = clip()
    for options, kind, words in (
        ({"mask": np.zeros((48, 64), int)}, DataError, "shows no object"),
        ({"mask": masks[0], "size": (64,)}, ConfigError, "size"),
        ({"mask": masks[0], "size": (64, 8)}, ConfigError, "at least 16"),
        ({"mask": masks[0], "finetune": -1}, ConfigError, "finetune"),
        ({"mask": masks[0], "finetune": 1.5}, ConfigError, "finetune"),
    ):
        with pytest.raises(kind, match=words):
            segmenter.propagate(frames, **options)


def test_a_mask_beyond_the_end_of_the_video_is_said(segmenter, clip):
    frames, masks = clip()
    with pytest.raises(DataError, match="frame 7, but the video has 5 frames"):
        run(segmenter, frames, {0: np.where(masks[0] == 1, 1, 0), 7: masks[0]})


def test_segment_of_a_video_model_is_one_clear_line(segmenter):
    with pytest.raises(ConfigError, match=r"propagate\(frames, mask\)"):
        segmenter.segment(["a.jpg", "b.jpg"])


def test_an_object_of_one_pixel_runs_with_a_warning(segmenter, clip):
    frames, masks = clip()
    mask = np.where(masks[0] == 1, 1, 0)
    mask[30, 30] = 2
    with pytest.warns(UserWarning, match="object 2 of frame 00000 is too small"):
        results = run(segmenter, frames, mask)
    assert results[0].ids[30, 30] == 2 and len(results) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(segmenter, frames, masks[0])


def test_frames_may_come_from_a_generator_and_none_is_kept(segmenter, clip):
    frames, masks = clip(count=12)
    taken, alive = [], []

    def source():
        for number, frame in enumerate(frames):
            taken.append(number)
            yield frame

    for number, result in enumerate(segmenter.propagate(source(), masks[0])):
        assert taken[-1] == number  # one frame is read when one result is asked for
        alive += [weakref.ref(result.image), weakref.ref(result)]
        del result
        assert sum(ref() is not None for ref in alive) <= 2  # the generator's own last frame


def test_own_feedback_lets_maps_overlap_and_merged_feedback_does_not(network, clip):
    frames, masks = clip(colours=((230, 30, 30), (230, 30, 30)), ids=(1, 2))  # two objects of one colour
    near = [np.where(m > 0, 1, 0) for m in masks]
    own = VideoSegmenter(network, Settings(size=(64, 48)))
    merged = VideoSegmenter(network, Settings(size=(64, 48), feedback="merged"))
    overlap = lambda s: (np.stack(list(s.masks.values())).sum(0) > 1).any()  # noqa: E731
    for segmenter, expected in ((own, True), (merged, False)):
        propagation = segmenter.start(prompts_from({0: masks[0]}))
        for index, frame in enumerate(frames[:2]):
            propagation.step(Frame(index, str(index), frame))
        assert overlap(propagation) == expected
    assert near[0].any()


def test_an_object_that_starts_keeps_its_mask_beside_one_that_is_sure_of_everything(network, clip, monkeypatch):
    frames, masks = clip(count=2)
    monkeypatch.setattr(network, "segment", lambda image, guides, scales: guides * 0 + 100)
    propagation = VideoSegmenter(network, Settings(size=(64, 48), feedback="merged")).start(
        prompts_from({0: np.where(masks[0] == 1, 1, 0), 1: masks[1]})
    )
    results = [propagation.step(Frame(index, str(index), frame)) for index, frame in enumerate(frames)]
    assert (propagation.masks[2] == (masks[1] == 2)).all() and ((results[1].ids == 2) == (masks[1] == 2)).all()


def test_probability_merging_gives_smooth_edges_at_the_frames_size(network, clip):
    frames, masks = clip(count=2)
    big = [np.kron(f, np.ones((4, 4, 1), np.uint8)) for f in frames]
    shapes = {}
    for merge in ("labels", "probabilities"):
        results = run(VideoSegmenter(network, Settings(size=(64, 48), merge=merge)), big, masks[0])
        shapes[merge] = results[1].ids
    blocks = shapes["labels"].reshape(48, 4, 64, 4)
    assert (blocks == blocks[:, :1, :, :1]).all()
    assert shapes["probabilities"].shape == (192, 256) and ((shapes["labels"] > 0) != 0).any()


def test_some_of_the_objects_can_be_merged_alone(segmenter, clip):
    frames, masks = clip()
    result = run(segmenter, frames, masks[0])[2]
    assert set(np.unique(result.merged((2,)))) == {0, 2}


def test_skipping_and_restoring_masks_continues_exactly(segmenter, clip):
    frames, masks = clip()
    prompts = prompts_from({0: np.where(masks[0] == 1, 1, 0), 1: masks[1]})
    whole, first, second = (segmenter.start(prompts) for _ in range(3))
    wanted = [whole.step(Frame(i, str(i), f)) for i, f in enumerate(frames)]
    for i in range(3):
        first.step(Frame(i, str(i), frames[i]))
        second.skip(Frame(i, str(i), frames[i]))
    second.restore(first.masks)
    for i in (3, 4):
        result = second.step(Frame(i, str(i), frames[i]))
        assert (result.probabilities == wanted[i].probabilities).all() and (result.ids == wanted[i].ids).all()
    with pytest.raises(DataError, match="other objects"):
        second.restore({1: first.masks[1]})


def test_the_overlay_shows_the_frame_with_each_object_in_its_colour(segmenter, clip):
    frames, masks = clip(count=1)
    picture = np.array(run(segmenter, frames, masks[0])[0].overlay())
    assert picture.shape == (48, 64, 3) and picture[40, 60].max() < 120  # background is darker
    assert len({tuple(picture[10, 10]), tuple(picture[28, 10]), tuple(picture[40, 60])}) == 3


def test_settings_survive_a_model_file_and_wrong_ones_are_named():
    settings = Settings(size=(448, 256), feedback="merged", pad_ratio=0.0)
    assert Settings.from_dict(settings.to_dict(), "m.safetensors") == settings
    assert Settings.from_dict({}, "m") == Settings()  # the original's: 854x480, labels merged at network size
    for stored, words in (({"colour": 1}, "colour"), ({"pad_ratio": "much"}, "pad_ratio"), ({"size": [3]}, "size")):
        with pytest.raises(CheckpointError, match=words):
            Settings.from_dict(stored, "m")


def test_a_model_may_keep_the_aspect_of_the_video():
    settings = Settings(size=(427, 240), aspect="keep")
    height, width = settings.network_size((1920, 1080))
    assert height % 16 == width % 16 == 0 and abs(height / width - 16 / 9) < 0.1
    assert settings.network_size((1920, 1080), (101, 67)) == (67, 101)
