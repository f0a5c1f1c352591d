"""Why a file of weights cannot be read: what it is in place of one. No torch."""

from __future__ import annotations

import zipfile
from pathlib import Path


def why_unreadable(path: Path, error: Exception) -> str:
    """In a few words: a page saved in its place, a pointer of Git LFS, cut off, ...; else the first line of `error`."""
    with open(path, "rb") as file:
        head = file.read(200).lstrip().lower()
    if not head:
        return "it is empty: download or copy it again"
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, saved in place of the file: download it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file: run git lfs pull"
    if head.startswith(b"pk\x03\x04") and not zipfile.is_zipfile(path):
        return "it is cut off: download or copy it again"
    said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if said.startswith("Weights only load failed"):  # torch's own text speaks of its options
        return "it is no file of torch.save, or holds Python objects beside tensors: save a state_dict"
    return said
