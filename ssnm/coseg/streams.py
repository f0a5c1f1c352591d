"""Reading and writing beside the network: photographs are decoded ahead of it, results written behind it.

On one core both happen in its pauses, on several in threads. Either way one bad photograph costs itself alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, MissingFileError
from ..files.atomic import require_writable
from ..files.listing import gathered, shorten
from ..files.parallel import in_threads, usable_cores
from .photos import Photo
from .predict import Predictor
from .segmentation import Segmentation, check_kinds, stems_of

Stage = Callable[[str, int, int], None]  # ("read" or "segmented", images done, images in all)


class Reading:
    """The photographs of a group as the network takes them. What was read so far: images, names, shown (see
    :class:`ssnm.coseg.photos.Photo`).

    Args:
        objects: index -> (H, W) bool, known objects.
        on_bad: told of each image that cannot be read and is left out; None: it is an error.
    """

    def __init__(
        self, predictor: Predictor, images: Sequence[Any], names: Sequence[str], objects: Mapping[int, np.ndarray],
        on_bad: Callable[[str], None] | None, progress: Stage,
    ) -> None:  # fmt: skip
        self._given, self._given_names, self._objects = images, names, objects
        self._predictor, self._on_bad, self._progress = predictor, on_bad, progress
        self.images: list[Any] = []
        self.names: list[str] = []
        self.shown: list[bytes | None] = []

    def __iter__(self) -> Iterator[Photo]:
        """Raises:
            DataError, MissingFileError: an image that cannot be read, where these are errors; none that can be; a
                known object whose image cannot be read, or whose mask has another size."""
        problems = []
        for index, photo in enumerate(in_threads(self._read, self._given)):
            name = self._given_names[index]
            if isinstance(photo, Photo):
                photo = photo.with_object(self._objects.get(index), name)
                self.images.append(self._given[index])
                self.names.append(name)
                self.shown.append(photo.shown)
                yield photo
            elif self._on_bad is None or index in self._objects:
                raise photo
            else:
                problems.append(str(photo))
                self._on_bad(problems[-1])
            self._progress("read", index + 1, len(self._given))
        if not self.images:
            said = shorten(gathered(problems), between="; ")
            raise DataError(said if len(problems) == 1 else f"none of the {len(problems)} images can be read: {said}")

    def _read(self, image: Any) -> Photo | DataError | MissingFileError:
        try:
            return self._predictor.read_photo(image, keep_shown=True)
        except (DataError, MissingFileError) as error:
            return error


class Writing:
    """Files of a result, written part by part behind the network.

    Raises:
        ConfigError, DataError: at once: a kind of file that there is not, two images of one name, a folder that cannot
            be written.
    """

    def __init__(self, folder: Path, kinds: Sequence[str], names: Sequence[str]) -> None:
        check_kinds(kinds)
        stems_of(names)
        require_writable(folder)
        self._folder, self._kinds = folder, kinds
        self._threads = usable_cores()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._written: list[str | None | Future[str | None]] = []

    def add(self, part: Segmentation) -> None:
        """Write the files of some images, or have them written."""
        for index, stem in enumerate(stems_of(part.names)):
            task = (index, self._folder, stem, self._kinds)
            direct = self._pool is None
            self._written.append(part.write_image(*task) if direct else self._pool.submit(part.write_image, *task))

    def finish(self, whole: Segmentation) -> None:
        """Wait for the files, and write those of the whole group.

        Raises:
            DataError: what could not be written.
        """
        said = [w.result() if isinstance(w, Future) else w for w in self._written]
        whole.write_figures(self._folder, [problem for problem in said if problem is not None])

    def stop(self) -> None:
        """Forget what has not been begun."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
