"""The console command `ssnm`: one sub-command per module of ssnm/commands, loaded when it is called."""

from __future__ import annotations

import argparse
import atexit
import importlib
import signal
import sys
from typing import Sequence

from . import __version__
from .errors import UserError
from .naming import printable

COMMANDS = {
    "train": "train a model from a YAML config",
    "test": "segment a test set, write maps, score them",
    "segment": "segment your own photographs",
    "label": "label photographs for other tools: COCO, YOLO, CVAT, masks",
    "serve": "a local page: drop photographs, see masks, download labels",
    "video": "follow objects through a video, given their first mask",
    "instances": "one mask per object, from nothing but a group of photographs",
    "score": "score a folder of maps against ground truth",
    "group-use": "does a model use the group? images with objects of two kinds",
    "outliers": "does a model notice the image that does not belong to its group?",
    "report": "one HTML page to look at every result",
    "datasets": "prepare and check data sets",
    "calibrate": "choose test size and slope on held-out groups",
    "export": "training checkpoint -> model file for users",
    "convert": "the authors' checkpoint -> model file of this package",
}

VIDEO_SETS = ("davis2016", "davis2017", "youtube_objects", "youtube_vos", "video_folder")
INSTANCE_SETS = ("instance_folder", "coco_instances", "procedural_instances")
# Commands whose options depend on the value of one of them: that option, and value -> module of ssnm/commands.
VARIANTS = {
    "score": ("--task", {"coseg": "score", "video": "score_video", "instances": "score_instances"}),
    "test": ("--dataset", dict.fromkeys(VIDEO_SETS, "test_video") | dict.fromkeys(INSTANCE_SETS, "test_instances")),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; a user's mistake is one line on standard error and status 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _print_any_name()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"ssnm {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        print(f"error: no command '{name}'; commands: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:  # the import too: it takes a second or more, in which Ctrl-C can arrive
        module = importlib.import_module(f".commands.{_module_of(name, arguments[1:])}", __package__)
        parser = argparse.ArgumentParser(prog=f"ssnm {name}", description=module.__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(parser)
        return module.run(parser.parse_args(arguments[1:]))
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "  # a full disk names no file
        print(f"error: {where}{error.strerror or error}".splitlines()[0], file=sys.stderr)
        return 2
    finally:
        atexit.unregister(_end_quietly)
        atexit.register(_end_quietly)


def _end_quietly() -> None:
    """With torch the end of the interpreter takes a second or more: Ctrl-C then ends it without a traceback. Who
    ignores Ctrl-C, as a job in the background of a script does, goes on ignoring it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _print_any_name() -> None:
    """A name that the terminal cannot show, or that is no text at all, is printed with backslash escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _module_of(name: str, arguments: Sequence[str]) -> str:
    """The module of a command: its own, or the one that :data:`VARIANTS` has for the value of its option."""
    option, modules = VARIANTS.get(name, ("", {}))
    for word, following in zip(arguments, [*arguments[1:], ""]):
        value = following if word == option else word.removeprefix(f"{option}=")
        if option and word.split("=")[0] == option and value in modules:
            return modules[value]
    return name.replace("-", "_")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    head = ["usage: ssnm COMMAND ...", "", "object co-segmentation", ""]
    return "\n".join([*head, *lines, "", "ssnm COMMAND --help says more"])


if __name__ == "__main__":
    sys.exit(main())
