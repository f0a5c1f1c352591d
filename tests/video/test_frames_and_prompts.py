"""What users give: frames of many kinds, masks of one or more frames."""

import numpy as np
import pytest
from PIL import Image

from ssnm.errors import DataError, MissingFileError, MissingPackageError
from ssnm.files.ids import ids_png
from ssnm.video import frames as frames_module
from ssnm.video.frames import count_frames, list_frames, read_frames
from ssnm.video.prompts import prompts_from, read_prompts

MASK = np.zeros((6, 8), np.uint8)
MASK[1:3, 1:3], MASK[4, 4:7] = 5, 200


def save(path, value=0, size=(8, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def test_a_folder_is_read_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        save(tmp_path / f"frame_{number}.png", (number, 0, 0))
    (tmp_path / "notes.txt").write_text("not a frame")
    found = list(read_frames(tmp_path))
    assert [(f.index, f.name, int(f.image[0, 0, 0])) for f in found] == [
        (0, "frame_1", 1), (1, "frame_9", 9), (2, "frame_10", 10)
    ]  # fmt: skip
    assert count_frames(tmp_path) == 3


def test_paths_pictures_and_arrays_of_any_mode_become_rgb(tmp_path):
    given = [save(tmp_path / "grey.png", 100, mode="L"), Image.new("RGBA", (8, 6), (100, 100, 100, 255)),
             np.full((6, 8), 100, np.uint8), np.full((6, 8, 3), 100 / 255, np.float32)]  # fmt: skip
    found = list(read_frames(given))
    assert [f.name for f in found] == ["grey", "00001", "00002", "00003"]
    assert all(f.image.shape == (6, 8, 3) and (f.image == 100).all() for f in found)


def test_a_generator_is_read_one_frame_at_a_time():
    taken = []

    def source():
        for number in range(5):
            taken.append(number)
            yield np.zeros((4, 4, 3), np.uint8)

    reader = read_frames(source())
    next(reader)
    assert taken == [0]


def test_wrong_frames_are_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "00000.jpg").write_bytes(b"no picture")
    save(tmp_path / "two" / "a.png"), save(tmp_path / "two" / "a.jpg")
    single = np.zeros((4, 4, 3), np.uint8)
    for frames, words in ((tmp_path / "empty", "no image"), (tmp_path / "broken", "00000.jpg"), ([], "got none"),
                          (tmp_path / "two", "share one stem"), (single, "single image")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            list(read_frames(frames))
    with pytest.raises(MissingFileError, match="nowhere"):
        list(read_frames(tmp_path / "nowhere"))


def test_a_video_file_without_pyav_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(MissingPackageError, match=r'pip install -e "\.\[video\]"'):
        list(read_frames(tmp_path / "clip.mp4"))


def test_a_video_file_is_read_where_pyav_is_installed(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (20, 120, 220):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    found = list(read_frames(tmp_path / "clip.mp4"))
    assert [f.name for f in found] == ["00000", "00001", "00002"] and found[0].image.shape == (48, 64, 3)
    assert [abs(int(f.image.mean()) - level) < 8 for f, level in zip(found, (20, 120, 220))] == [True] * 3
    assert count_frames(tmp_path / "clip.mp4") == 3
    (tmp_path / "text.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="text.mp4"):
        list(frames_module.read_frames(tmp_path / "text.mp4"))


def test_a_video_of_a_turned_camera_is_turned_back():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = 255  # upper left; a quarter with the clock brings it to the upper right
    turned = frames_module.upright(image, -90)
    assert turned.shape == (3, 2, 3) and turned[0, 1].all() and turned.sum() == 3 * 255
    assert (frames_module.upright(image, 0) == image).all()


def test_an_id_starts_where_it_is_seen_first():
    later = MASK.copy()
    later[0, 0] = 9
    prompts = prompts_from({0: np.where(MASK == 5, 5, 0), 3: later})
    assert prompts.object_ids == (5, 9, 200)
    assert set(np.unique(prompts.masks[3])) == {0, 9, 200} and set(np.unique(prompts.masks[0])) == {0, 5}


def test_0_255_and_bool_masks_are_id_1_and_255_beside_ids_is_void():
    assert prompts_from(MASK > 0).object_ids == (1,)
    assert prompts_from((MASK > 0) * 255).object_ids == (1,)
    assert prompts_from(np.where(MASK == 200, 255, MASK)).object_ids == (5,)


def test_a_mask_without_object_or_of_a_wrong_kind_is_refused():
    empty, deep = np.zeros((4, 4), int), np.zeros((1, 4, 4), int)
    for mask, words in ((empty, "shows no object"), ({}, "shows no object"), ({-1: MASK}, "-1"),
                        ({"0": MASK}, "'0'"), (deep, r"\(H, W\)"), (MASK * 0.5, "float")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            prompts_from(mask)


def test_a_mask_of_another_size_is_brought_to_the_frame_and_of_another_shape_refused():
    prompts = prompts_from(MASK)
    assert (prompts.of_frame(0, (12, 16), "a") == np.kron(MASK, np.ones((2, 2), int))).all()
    assert prompts.of_frame(1, (12, 16), "b") is None
    with pytest.raises(DataError, match="frame a: its mask has 8x6 pixels, the frame 6x8"):
        prompts.of_frame(0, (8, 6), "a")


def test_a_mask_file_keeps_its_palette(tmp_path):
    palette = bytes(range(256)) * 3
    (tmp_path / "first.png").write_bytes(ids_png(MASK, palette))
    prompts = read_prompts(tmp_path / "first.png")
    assert prompts.palette == palette and (prompts.masks[0] == MASK).all()
    assert prompts_from(tmp_path / "first.png").object_ids == (5, 200)
    with pytest.raises(MissingFileError, match="no such mask"):
        read_prompts(tmp_path / "other.png")


def test_a_folder_of_masks_is_paired_with_frames_by_name(tmp_path):
    names = ["a1", "a2", "a10"]
    (tmp_path / "a1.png").write_bytes(ids_png(np.where(MASK == 5, 5, 0)))
    (tmp_path / "a10.png").write_bytes(ids_png(MASK))
    prompts = read_prompts(tmp_path, names)
    assert sorted(prompts.masks) == [0, 2] and prompts.object_ids == (5, 200)
    with pytest.raises(DataError, match="a10"):
        read_prompts(tmp_path, names[:2])
    with pytest.raises(DataError, match="a1"):
        read_prompts(tmp_path, None)


def test_listing_needs_stems_of_their_own(tmp_path):
    save(tmp_path / "1.png")
    assert [p.name for p in list_frames(tmp_path)] == ["1.png"]
