"""The page of `ssnm serve`: what it says of photographs, good and bad, its label files, and that it stays at home."""

import json
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image

import ssnm
from ssnm.cli import main
from ssnm.data.procedural import ProceduralSource

pytest.importorskip("gradio", reason='the extra "serve" is not installed (pip install -e ".[serve]")')
from ssnm.commands import serve  # noqa: E402
from ssnm.commands.serve_page import local_app, segment_files, write_labels  # noqa: E402

OWN = re.compile(r"http://(127\.0\.0\.1|localhost)[:/\\]|http://www\.w3\.org/")  # the page itself, names of XML


@pytest.fixture(scope="module")
def segmenter():
    return ssnm.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[str]:
    """Two photographs, and one that is none between them."""
    folder, source = tmp_path_factory.mktemp("photos"), ProceduralSource(num_images=60, seed=3)
    for name, index in (("a.jpg", 0), ("c.jpg", 1)):
        Image.fromarray(np.ascontiguousarray(source.render(index, (60, 80))[0])).save(folder / name)
    (folder / "bad.jpg").write_bytes(b"no photograph")
    return [str(folder / name) for name in ("a.jpg", "bad.jpg", "c.jpg")]


@pytest.fixture(scope="module")
def address(segmenter, tmp_path_factory):
    """The page, served."""
    import uvicorn

    work = tmp_path_factory.mktemp("work")
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(work))
    listener = serve._listen(0)
    server = uvicorn.Server(uvicorn.Config(local_app(segmenter, str(work)), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)
    patch.undo()


def read(address: str, **headers: str) -> tuple[str, dict]:
    for _ in range(100):
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
                return answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)


def test_a_bad_photograph_is_named_and_the_others_are_segmented(segmenter, photos, tmp_path):
    pictures, said, result = segment_files(segmenter, photos)
    assert [caption.split(":")[0] for _, caption in pictures] == ["a.jpg", "c.jpg"]
    assert said.startswith("left out: bad.jpg: cannot be decoded") and "of the image" in said
    archive, told = write_labels(result, "coco", "toy", str(tmp_path))
    assert told == "labels_coco.zip: 2 photographs, class toy"
    with zipfile.ZipFile(archive) as files:
        document = json.loads(files.read("annotations.json"))
    assert [image["file_name"] for image in document["images"]] == ["a.jpg", "c.jpg"]
    assert document["categories"] == [{"id": 1, "name": "toy"}] and document["annotations"]


def test_mistakes_are_sentences_on_the_page(segmenter, photos, tmp_path):
    pictures, said, result = segment_files(segmenter, [photos[1]])
    assert pictures == [] and result is None and "bad.jpg" in said and "/" not in said
    assert "Drop photographs" in segment_files(segmenter, None)[1]
    assert write_labels(None, "coco", "toy", str(tmp_path)) == (
        None, "Segment photographs first; labels are made of their masks.")  # fmt: skip
    _, _, result = segment_files(segmenter, [photos[0]])
    archive, said = write_labels(result, "yolo", "cats/dogs", str(tmp_path))
    assert archive is None and "cats/dogs" in said
    _, _, double = segment_files(segmenter, [photos[0]] * 2)
    assert "rename one" in write_labels(double, "coco", "toy", str(tmp_path))[1]


def test_the_page_and_its_style_name_no_other_machine_and_the_browser_may_ask_none(address):
    page, headers = read(address)
    styles = [read(address + name)[0] for name in ["theme.css", *re.findall(r'href="\./?([^"]+\.css[^"]*)"', page)]]
    found = [url for text in (page, *styles) for url in re.findall(r"https?://[^\s\"'<>)]*", text)]
    assert [url for url in found if not OWN.match(url)] == []
    assert not any("@import" in text for text in styles)
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert len(page.encode()) == int(headers["content-length"])


def test_it_answers_to_no_other_name(address):
    """Else a page of another machine, whose name leads to 127.0.0.1, could read the photographs."""
    with pytest.raises(urllib.error.HTTPError, match="400"):
        read(address, Host="photographs.example")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        read(address + "docs")


def test_a_port_that_is_taken_is_one_line(capsys):
    with serve._listen(0) as listener:
        listener.listen()
        assert main(["serve", "--port", str(listener.getsockname()[1])]) == 2
    assert "choose another with --port" in capsys.readouterr().err
    assert main(["serve", "--port", "99999"]) == 2


def test_without_the_extra_the_message_names_it(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["serve"]) == 2
    assert 'pip install -e ".[serve]"' in capsys.readouterr().err


@pytest.fixture
def browser(tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install -e .[dev])")
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no headless browser: chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                 f"--user-data-dir={tmp_path}"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield chrome
    chrome.quit()


@pytest.mark.slow  # .ci/run has a line for it
def test_in_a_browser_photographs_become_masks_and_labels_and_nothing_is_asked_of_the_network(
    browser, address, photos, tmp_path
):
    from selenium.webdriver.support.ui import WebDriverWait

    def until(condition, what):
        return WebDriverWait(browser, 60).until(lambda b: condition(), what)

    def one(selector):
        return browser.find_element("css selector", selector)

    read(address)
    browser.get(address)
    until(lambda: browser.find_elements("css selector", "#photographs input[type=file]"), "the page")
    one("#photographs input[type=file]").send_keys("\n".join(photos))
    until(lambda: "c.jpg" in one("#photographs").text.replace("\n", ""), "the upload")
    one("#segment").click()
    report = lambda: one("#report textarea").get_property("value")  # noqa: E731
    until(lambda: "a.jpg: " in report(), "the masks")
    assert "left out: bad.jpg: cannot be decoded" in report() and "Traceback" not in report()
    until(lambda: len(browser.find_elements("css selector", "#masks img")) == 2, "two pictures")
    one("#make-labels").click()
    link = until(lambda: browser.find_elements("css selector", "#labels a[href]"), "the label files")[0]
    archive = tmp_path / "labels.zip"
    with urllib.request.urlopen(link.get_attribute("href")) as answer:
        archive.write_bytes(answer.read())
    assert zipfile.ZipFile(archive).namelist() == ["annotations.json"]
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    elsewhere = [u for u in urls if u.startswith(("http", "ws")) and not u.startswith(address)]
    assert address in urls and elsewhere == []
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE" and "favicon" not in e["message"]] == []
