"""Entry points of torch.hub: torch.hub.load(FOLDER_OF_A_CLONE, "coseg", source="local")."""

dependencies = ["torch", "torchvision", "timm", "numpy", "PIL", "safetensors", "yaml", "tqdm"]


def coseg(path: str = "default", device: str | None = None, runtime: str | None = None):
    """A co-segmentation model: `.segment(images)` finds what photographs have in common. See `ssnm.from_pretrained`."""
    from ssnm import from_pretrained

    return from_pretrained(path, device, method="ssnm", runtime=runtime)


def video(path: str = "video", device: str | None = None):
    """A video model (OSMN), the shipped one or a checkpoint: `.propagate(frames, masks)` follows objects."""
    from ssnm import from_pretrained

    return from_pretrained(path, device, method="osmn")
