"""A store gives the very samples of its source, goes on where it stopped, and refuses what it was not made of."""

import argparse
import json
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ssnm.commands import datasets
from ssnm.coseg.build import build_pools
from ssnm.coseg.config import config_from_dict
from ssnm.coseg.groups import GroupDataset, collate_groups
from ssnm.coseg.pool import ImagePool
from ssnm.coseg.sampler import GroupDrawer, GroupMix, StepSampler
from ssnm.data import store as store_module
from ssnm.data.coco import CocoSegSource, build_index, write_index
from ssnm.data.folders import ProcessedSource, VocSource
from ssnm.data.procedural import ProceduralSource
from ssnm.data.store import IMAGES, INDEX, MASKS, StoreSource, verify_store, write_store
from ssnm.errors import ConfigError, DataError, MissingFileError

SIZE = (30, 22)  # 660 pixels: the packed masks end in half a byte


def save_image(path: Path, number: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def save_labels(path: Path, number: int, void: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros((40, 50), np.uint8)
    labels[5 + number : 25, 4:30] = 1 + number % 2
    labels[28:, 20 + number :] = 15
    if void:
        labels[24:29] = 255
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0, *((i * 37) % 256 for i in range(3, 768))])
    image.save(path)


def voc(root: Path) -> VocSource:
    for i in range(7):
        save_image(root / "JPEGImages" / f"{i}.png", i, "L" if i == 2 else "RGB")
        save_labels(root / "SegmentationClass" / f"{i}.png", i, void=i % 3 == 1)
    return VocSource(root)


def processed(root: Path) -> ProcessedSource:
    for i in range(5):
        save_image(root / "image" / "cat" / f"{i}.jpg", i)
        save_labels(root / "groundtruth" / "cat" / f"{i}.png", i, void=i == 3)
    return ProcessedSource(root)


def coco_seg(root: Path) -> CocoSegSource:
    images = [{"id": i, "file_name": f"{i}.png", "width": 50, "height": 40} for i in range(6)]
    boxes = [(i, 1 + 2 * k, 3 * i, 5 * k, 3 * i + 20, 5 * k + 15) for i in range(6) for k in range(1 + i % 2)]
    annotations = [
        {"image_id": i, "category_id": c, "area": 300, "segmentation": [[x, y, u, y, u, v, x, v]]}
        for i, c, x, y, u, v in boxes
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    for i in range(6):
        save_image(root / f"{i}.png", i, "L" if i == 4 else "RGB")
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(document))
    write_index(build_index(root / "instances.json", min_area=30, min_images=1), root / "index.json")
    return CocoSegSource(root / "index.json", root)


def procedural(root: Path) -> ProceduralSource:
    return ProceduralSource(num_images=9, seed=3)


def equal(first, second) -> bool:
    tensors = ("image", "masks", "void")
    same = all(torch.equal(getattr(first, t), getattr(second, t)) for t in tensors)
    types = all(getattr(first, t).dtype == getattr(second, t).dtype for t in tensors)
    return same and types and first.grey is second.grey


@pytest.fixture
def source(tmp_path):
    return voc(tmp_path / "voc")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", [voc, processed, coco_seg, procedural])
def test_every_sample_is_bit_identical_to_its_source(tmp_path, make, workers):
    source = make(tmp_path)
    report = write_store(source, tmp_path / "store", SIZE, workers)
    for store in (StoreSource(tmp_path / "store", SIZE, source), StoreSource(tmp_path / "store")):
        assert (store.name, store.categories, store.size) == (source.name, source.categories, SIZE)
        assert list(store.items) == list(source.items)
        assert all(equal(store.load(i, SIZE), source.load(i, SIZE)) for i in range(len(source.items)))
    assert report.images == len(source.items) and not report.bad and verify_store(tmp_path / "store") == []


def test_the_sources_of_these_tests_have_void_grey_and_several_masks(source):
    samples = [source.load(i, SIZE) for i in range(7)]
    assert [bool(s.void.any()) for s in samples] == [i % 3 == 1 for i in range(7)]
    assert sum(s.grey for s in samples) == 1 and {len(s.masks) for s in samples} == {2}


def test_training_batches_from_a_store_are_bit_identical(tmp_path, source):
    write_store(source, tmp_path / "store", SIZE)

    def batches(of):
        pool = ImagePool([of])
        sampler = StepSampler(GroupDrawer(pool, 3, mix=GroupMix(0.5, 0.3, 0.3)), 2, seed=0, start=0, stop=4)
        dataset = GroupDataset(pool, SIZE)
        return [collate_groups([dataset[d] for d in draws]) for draws in sampler]

    for one, other in zip(batches(source), batches(StoreSource(tmp_path / "store"))):
        assert torch.equal(one.images, other.images) and torch.equal(one.masks, other.masks)
        assert torch.equal(one.valid, other.valid) and one.names == other.names


def test_a_store_maps_its_files_in_the_process_that_reads(tmp_path, source):
    write_store(source, tmp_path / "store", SIZE)
    store = StoreSource(tmp_path / "store")
    before = store.load(0, SIZE)
    sent = pickle.dumps(store)
    assert len(sent) < 7 * 3 * SIZE[0] * SIZE[1]  # the images did not travel
    assert equal(pickle.loads(sent).load(0, SIZE), before)


def test_a_sample_may_be_changed_without_changing_the_store(tmp_path, source):
    write_store(source, tmp_path / "store", SIZE)
    store = StoreSource(tmp_path / "store")
    store.load(0, SIZE).image.zero_()
    assert equal(store.load(0, SIZE), source.load(0, SIZE))


# Interrupted runs


@pytest.fixture
def counted_often(monkeypatch):
    monkeypatch.setattr(store_module, "_COUNT_EVERY", 2)


def test_a_finished_store_is_not_written_again(tmp_path, source):
    write_store(source, tmp_path / "store", SIZE)
    before = (tmp_path / "store" / INDEX).read_bytes()
    assert write_store(source, tmp_path / "store", SIZE).written == 0
    assert (tmp_path / "store" / INDEX).read_bytes() == before


def test_an_unfinished_store_is_refused_and_finished_by_running_again(tmp_path, source, counted_often, monkeypatch):
    root = tmp_path / "store"
    load = source.load
    monkeypatch.setattr(source, "load", lambda i, size: load(i, size) if i < 5 else 1 / 0)  # killed at image 5
    with pytest.raises(ZeroDivisionError):
        write_store(source, root, SIZE)
    monkeypatch.setattr(source, "load", load)
    for refuse in (lambda: StoreSource(root), lambda: StoreSource(root, SIZE, source)):
        with pytest.raises(DataError, match="unfinished, 4 of 7 images"):
            refuse()
    assert "unfinished, 4 of 7 images" in verify_store(root)[0]
    assert write_store(source, root, SIZE).written == 3 and verify_store(root) == []
    assert all(equal(StoreSource(root).load(i, SIZE), source.load(i, SIZE)) for i in range(7))


@pytest.mark.parametrize("name", [IMAGES, MASKS])
def test_damaged_bytes_are_found(tmp_path, source, name):
    root = tmp_path / "store"
    write_store(source, root, SIZE)
    data = bytearray((root / name).read_bytes())
    data[-1] ^= 255
    (root / name).write_bytes(data)
    (problem,) = verify_store(root)
    assert problem.startswith(name) and "does not fit its checksum" in problem


@pytest.mark.parametrize("name", [IMAGES, MASKS])
def test_a_short_foreign_or_missing_file_is_refused_before_it_is_read(tmp_path, source, name):
    root = tmp_path / "store"
    write_store(source, root, SIZE)
    os.truncate(root / name, (root / name).stat().st_size - 1)
    for use in (lambda: StoreSource(root), lambda: verify_store(root), lambda: write_store(source, root, SIZE)):
        with pytest.raises(DataError, match=f"{name}.*remove the folder"):
            use()
    np.save(root / name, np.zeros(3))
    with pytest.raises(DataError, match=f"{name}: float64"):
        StoreSource(root)
    (root / name).unlink()
    with pytest.raises(MissingFileError, match=name):
        StoreSource(root)


def test_a_store_of_version_0_1_or_a_foreign_index_is_refused_with_the_line_that_makes_it_anew(tmp_path, source):
    root = tmp_path / "stores" / "voc"
    root.mkdir(parents=True)
    (root / "store.json").write_text('{"format": "ssnm-store", "version": 1}')
    for use in (lambda: StoreSource(root), lambda: write_store(source, root, SIZE)):
        with pytest.raises(DataError, match=f"ssnm datasets cache CONFIG --out {root.parent}"):
            use()
    for text in ("{}", "[1]", "{", '{"format": "other"}'):
        (root / INDEX).write_text(text)
        with pytest.raises(DataError, match="not a store of this version"):
            StoreSource(root)


# What a store is refused for


def test_another_size_is_refused_with_both_sizes(tmp_path, source):
    write_store(source, tmp_path / "store", SIZE)
    with pytest.raises(DataError, match="30x22, 64x64 was asked for"):
        StoreSource(tmp_path / "store", (64, 64))
    with pytest.raises(DataError, match="30x22"):
        StoreSource(tmp_path / "store").load(0, (22, 30))
    with pytest.raises(DataError, match="another store.*size"):
        write_store(source, tmp_path / "store", (64, 64))


@pytest.mark.parametrize(
    "change, said",
    [("type", "VocSource"), ("count", "number of images"), ("name", "image 6"), ("labels", "image 1 '1' .*bicycle")],
)
def test_another_source_is_refused_with_the_first_difference(tmp_path, source, change, said):
    write_store(source, tmp_path / "store", SIZE)
    other = {"type": procedural, "count": voc, "name": voc, "labels": voc}[change](tmp_path / "other")
    folders = [tmp_path / "other" / "JPEGImages", tmp_path / "other" / "SegmentationClass"]
    for folder in folders if change in ("count", "name") else ():
        (folder / "6.png").rename(folder / ("8.png" if change == "name" else "6.hidden"))
    if change == "labels":
        save_labels(folders[1] / "1.png", 0, void=False)  # category 1 instead of 2
    other = other if change == "type" else VocSource(tmp_path / "other")
    for refuse in (lambda root: StoreSource(root, SIZE, other), lambda root: write_store(other, root, SIZE)):
        with pytest.raises(DataError, match=said) as error:
            refuse(tmp_path / "store")
        assert "\n" not in str(error.value)


def test_a_missing_store_says_how_to_make_one(tmp_path):
    with pytest.raises(MissingFileError, match="ssnm datasets cache"):
        StoreSource(tmp_path)


def test_a_disk_without_room_is_said_at_once_and_leaves_nothing(tmp_path, source, monkeypatch):
    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", no_room)
    with pytest.raises(DataError, match="GB and cannot be written .No space left"):
        write_store(source, tmp_path / "store", SIZE)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_worker_that_dies_is_told(tmp_path, source):
    source.load = lambda index, size: os._exit(1)
    with pytest.raises(DataError, match="a worker ended.*fewer workers"):
        write_store(source, tmp_path / "store", SIZE, workers=1)


@pytest.mark.skipif(torch.multiprocessing.get_start_method() != "fork", reason="workers are not forked here")
def test_ctrl_c_while_a_worker_starts_does_not_kill_it(tmp_path, source, monkeypatch):
    begin = torch.utils.data._utils.worker._worker_loop

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        begin(*args)

    monkeypatch.setattr(torch.utils.data._utils.worker, "_worker_loop", interrupted)
    assert write_store(source, tmp_path / "store", SIZE, workers=1).bad == {}


def test_an_image_that_cannot_be_read_is_told_by_writer_and_reader_until_it_is_mended(tmp_path, source):
    path = tmp_path / "voc" / "JPEGImages" / "2.png"  # the grey one
    good = path.read_bytes()
    path.write_bytes(good[:100])
    report = write_store(source, tmp_path / "store", SIZE)
    assert list(report.bad) == [str(path)]
    store = StoreSource(tmp_path / "store", SIZE, source)
    assert list(store.bad) == [2]
    with pytest.raises(DataError, match="2.png"):
        store.load(2, SIZE)
    assert equal(store.load(4, SIZE), source.load(4, SIZE))
    path.write_bytes(good)
    report = write_store(source, tmp_path / "store", SIZE)
    assert (report.written, report.bad) == (1, {}) and verify_store(tmp_path / "store") == []
    assert equal(StoreSource(tmp_path / "store").load(2, SIZE), source.load(2, SIZE))


# Command and config


def command(*arguments) -> int:
    parser = argparse.ArgumentParser()
    datasets.add_arguments(parser)
    return datasets.run(parser.parse_args(["cache", *map(str, arguments)]))


@pytest.fixture
def config_file(tmp_path, source):
    sources = [{"type": "voc", "root": str(tmp_path / "voc")}, {"type": "procedural", "num_images": 30}]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": {"sources": sources, "size": 32, "workers": 1, "holdout": 0.2}}))
    return path


def test_the_command_makes_a_store_of_each_source_and_training_reads_them(tmp_path, config_file, capsys):
    assert command(config_file, "--out", tmp_path / "stores") == 0
    printed = capsys.readouterr().out
    assert "7 images of 32x32" in printed and f"data.sources.1.store={tmp_path / 'stores' / 'procedural'}" in printed
    mapping = yaml.safe_load(config_file.read_text())
    plain = build_pools(config_from_dict(mapping).data)
    for section in mapping["data"]["sources"]:
        section["store"] = str(tmp_path / "stores" / section["type"])
    stored = build_pools(config_from_dict(mapping).data)
    assert all(isinstance(s, StoreSource) for s in stored[0].sources)
    alone = [{"type": "store", "root": section["store"]} for section in mapping["data"]["sources"]]
    mapping["data"]["sources"] = alone
    lonely = build_pools(config_from_dict(mapping).data)
    for a, b, c in zip(plain, stored, lonely):
        assert a.ids == b.ids == c.ids and a.labels == b.labels == c.labels  # the same images are held out
        number = a.ids[-1]
        assert equal(a.load(number, (32, 32)), b.load(number, (32, 32)))
        assert equal(a.load(number, (32, 32)), c.load(number, (32, 32)))
    mapping["data"]["size"] = 64
    with pytest.raises(DataError, match="32x32, 64x64 was asked for"):
        build_pools(config_from_dict(mapping).data)


def test_the_command_verifies_and_its_status_tells(tmp_path, config_file, capsys):
    out = tmp_path / "stores"
    assert command(config_file, "--out", out, "--size", 16, "--workers", 1) == 0
    assert command(config_file, "--out", out, "--verify") == 0
    with open(out / "voc" / IMAGES, "r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    assert command(config_file, "--out", out, "--verify") == 1
    assert f"wrong: {out / 'voc'}: {IMAGES}" in capsys.readouterr().out


def test_masks_united_at_full_size_are_not_read_from_a_store():
    section = {"type": "coco_seg", "index": "i.json", "images": "images", "store": "stores/coco"}
    with pytest.raises(ConfigError, match="store"):
        config_from_dict({"data": {"sources": [section], "union_at_full_size": True}})
    with pytest.raises(ConfigError, match="got store"):
        config_from_dict({"data": {"sources": [{"type": "store", "root": "s"}], "union_at_full_size": True}})


def test_two_sources_of_one_name_cannot_share_a_folder(tmp_path, config_file):
    with pytest.raises(ConfigError, match="a name of its own"):
        command(config_file, "--out", tmp_path / "stores", "--set", "data.sources.1.name=voc")


@pytest.mark.real_data
def test_photographs_come_out_of_a_store_as_out_of_their_files(tmp_path, ssnm_data):
    folder = ssnm_data / "COCO_mini549"
    write_index(build_index(folder / "instances_mini549.json", min_images=100), tmp_path / "index.json")
    source = CocoSegSource(tmp_path / "index.json", folder / "images")
    source.items = source.items[:40]
    write_store(source, tmp_path / "store", (224, 224))
    store = StoreSource(tmp_path / "store", (224, 224), source)
    assert all(equal(store.load(i, (224, 224)), source.load(i, (224, 224))) for i in range(0, 40, 3))
