"""The page that `ssnm serve` shows, and the application around it that lets nothing in or out but this machine.

Only :mod:`ssnm.commands.serve` imports this: gradio is an extra.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from fastapi import FastAPI
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ..coseg.segmentation import stems_of
from ..data.labels import FORMATS, Label, LabelWriter
from ..errors import UserError
from ..naming import counted

if TYPE_CHECKING:
    from ..coseg.segmentation import Segmentation
    from ..coseg.segmenter import CoSegmenter

SHOWN_SIDE = 900  # pixels along the longer side of a picture on the page
NOTHING_FROM_OUTSIDE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "media-src 'self' data: blob:; frame-src 'none'; object-src 'none'; form-action 'self'"
)
_OUTSIDE = re.compile(rb"<(meta|link)\b[^>]*https?://[^>]*>|<script\b[^>]*\bsrc=\"https?://[^>]*>\s*</script>")
_EXAMPLES = re.compile(rb"https://(?:raw\.githubusercontent|github)\.com/gradio-app/[^\s\"'\\<]*")  # of gradio's API


def segment_files(
    segmenter: CoSegmenter, files: list[str] | None, progress: Any = None
) -> tuple[list[tuple[Image.Image, str]], str, Segmentation | None]:
    """Uploaded files -> pictures with captions, what is to be said in lines, and the result; mistakes are said, too."""
    if not files:
        return [], "Drop photographs that have something in common, then press Segment.", None
    bad: list[str] = []
    tell = (lambda stage, done, total: None) if progress is None else (
        lambda stage, done, total: progress((done, total), desc=stage))  # fmt: skip
    try:
        result = segmenter.segment(files, on_bad=bad.append, progress=tell)
    except UserError as error:
        return [], _without_folders(str(error), files), None
    lines = [f"left out: {_without_folders(problem, files)}" for problem in bad]
    pictures = []
    for i, name in enumerate(result.names):
        share = result.covered(i)
        said = f"{share:.0%} of the image" if share else "nothing found"
        said += "" if result.present is None else f", present {result.present[i]:.0%}"
        lines.append(f"{name}: {said}")
        picture = result.overlay(i)
        picture.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        pictures.append((picture, f"{name}: {said}"))
    return pictures, "\n".join(lines), result


def write_labels(result: Segmentation | None, format: str, category: str, work: str) -> tuple[str | None, str]:
    """A result as the label files of one format in a ZIP file under `work`, and what is to be said."""
    if result is None:
        return None, "Segment photographs first; labels are made of their masks."
    place = Path(tempfile.mkdtemp(dir=work))
    category = category.strip() or "object"
    try:
        stems_of(result.names)  # two images of one name would share their labels
        writer = LabelWriter(format, place / "labels", (category,))
        for i, name in enumerate(result.names):
            mask = result.masks[i]
            score = 1.0 if result.present is None else float(result.present[i])
            writer.add(Label(name, mask.shape, mask, category, score))
        writer.close()
    except UserError as error:
        return None, str(error)
    archive = place / f"labels_{format}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(p for p in (place / "labels").rglob("*") if p.is_file()):
            out.write(file, file.relative_to(place / "labels"))
    return str(archive), f"{archive.name}: {counted(len(result), 'photograph')}, class {category}"


def build_page(segmenter: CoSegmenter, work: str) -> gr.Blocks:
    """The controls, and what happens when they are used. work: where label files are written."""

    def segment(files: list[str] | None, progress=gr.Progress()) -> tuple:  # noqa: B008, gradio asks for it there
        return segment_files(segmenter, files, progress)

    def labels(result: Segmentation | None, format: str, category: str) -> tuple:
        return write_labels(result, format, category, work)

    with gr.Blocks(title="ssnm: what do these photographs have in common?", analytics_enabled=False) as page:
        gr.Markdown("# What do these photographs have in common?")
        result = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1):
                files = gr.File(file_count="multiple", label="Photographs", elem_id="photographs")
                start = gr.Button("Segment", variant="primary", elem_id="segment")
                format = gr.Radio(FORMATS, value=FORMATS[0], label="Labels as", elem_id="format")
                category = gr.Textbox("object", label="Class", elem_id="class", max_lines=1)
                make = gr.Button("Make label files", elem_id="make-labels")
                archive = gr.File(label="Label files", interactive=False, elem_id="labels")
            with gr.Column(scale=2):
                pictures = gr.Gallery(label="Masks", columns=3, format="jpeg", elem_id="masks", buttons=["fullscreen"])
                said = gr.Textbox(label="What was found", lines=6, max_lines=20, interactive=False, elem_id="report")
        start.click(segment, files, [pictures, said, result], api_visibility="private")
        make.click(labels, [result, format, category], [archive, said], api_visibility="private")
    return page


def local_app(segmenter: CoSegmenter, work: str) -> Any:
    """The page as an ASGI application that answers this machine only and loads nothing from another."""
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # the documents would come with scripts from outside
    gr.mount_gradio_app(app, build_page(segmenter, work), "/", server_name="127.0.0.1", footer_links=[], theme=theme,
                        ssr_mode=False, pwa=False, mcp_server=False)  # fmt: skip
    return TrustedHostMiddleware(_NothingFromOutside(app), allowed_hosts=["127.0.0.1", "localhost"])


class _NothingFromOutside:
    """Takes references to other machines out of the pages, and forbids browsers to follow any that are left."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        start: dict = {}
        page = bytearray()

        async def guarded(message: dict) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                start["headers"] = [*message["headers"], (b"content-security-policy", NOTHING_FROM_OUTSIDE.encode())]
                if not _is_html(message["headers"]):
                    await send(start)
            elif message["type"] == "http.response.body" and start and _is_html(start["headers"]):
                page.extend(message.get("body", b""))
                if not message.get("more_body"):
                    body = _EXAMPLES.sub(b"", _OUTSIDE.sub(b"", bytes(page)))
                    length = (b"content-length", str(len(body)).encode())
                    start["headers"] = [h for h in start["headers"] if h[0] != b"content-length"] + [length]
                    await send(start)
                    await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self.app(scope, receive, guarded)


def _is_html(headers: list[tuple[bytes, bytes]]) -> bool:
    found = {name.lower(): value for name, value in headers}
    return found.get(b"content-type", b"").startswith(b"text/html") and b"content-encoding" not in found


def _without_folders(text: str, files: list[str]) -> str:
    """The names of uploads as their owner knows them."""
    for file in files:
        text = text.replace(str(Path(file)), Path(file).name)
    return text
