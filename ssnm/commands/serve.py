"""A page on your own machine: drop photographs, see what they have in common, download labels.

It answers on 127.0.0.1 alone, asks nothing of the network and works without one. Photographs and results lie in a
temporary folder that is removed when the server ends (Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile

from ..errors import ConfigError, MissingPackageError
from ..pretrained import RUNTIMES

HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=7860, help="of 127.0.0.1 (default: 7860; 0: any that is free)")
    parser.add_argument("--checkpoint", default="default", metavar="FILE", help="a model (default: the shipped one)")
    parser.add_argument("--device", help="cpu, cuda, ... (default: an accelerator where there is one)")
    parser.add_argument("--runtime", choices=RUNTIMES, help="what runs the network (default: torch)")


def run(args: argparse.Namespace) -> int:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError:
        raise MissingPackageError('the page needs gradio: pip install -e ".[serve]"') from None
    from .. import from_pretrained
    from .serve_page import local_app

    listener = _listen(args.port)
    segmenter = from_pretrained(args.checkpoint, args.device, method="ssnm", runtime=args.runtime)
    with tempfile.TemporaryDirectory(prefix="ssnm-serve-") as work:
        os.environ["GRADIO_TEMP_DIR"] = work
        server = uvicorn.Server(uvicorn.Config(local_app(segmenter, work), log_level="warning"))
        print(f"http://{HOST}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
        server.run(sockets=[listener])
    return 0


def _listen(port: int) -> socket.socket:
    """A socket of this machine alone.

    Raises:
        ConfigError: the port is taken, or is none.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(f"port {port} of {HOST} cannot be had ({error}); choose another with --port") from None
    return listener
