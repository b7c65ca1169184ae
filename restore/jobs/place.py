"""Where `restore sample` and `restore invert` write, and by which model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from restore.errors import BadArgument
from restore.files import refuse_existing
from restore.jobs.plan import check_writable
from restore.photo.photograph import Photo, write_photo, written_format


class Place(NamedTuple):
    """Where the output goes, and by which model it is made.

    Attributes:
        target: a file; a folder if ``separate``.
        separate: True to write one file per picture.
        overwrite: True to overwrite existing files.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        label: class label for a class-conditional model.
    """

    target: Path
    separate: bool = False
    overwrite: bool = False
    model: str = "default"
    device: str = "auto"
    label: int | None = None

    def check(self, files: Sequence[Path]) -> None:
        """Check that files can be written, before any work.

        Raises:
            FileAccess: a file that exists or cannot be written.
        """
        for path in files:
            refuse_existing(path, self.overwrite)
            check_writable(path.parent)

    def files(self, count: int) -> list[Path]:
        """Return the output files of a number of pictures.

        Raises:
            BadArgument: the folder is a file.
        """
        if not self.separate:
            return [self.target]
        if self.target.is_file():
            raise BadArgument(f"{self.target}: is a file; with `separate` OUT is a folder")
        digits = len(str(count - 1))
        return [self.target / f"{index:0{digits}}.png" for index in range(count)]

    def save(self, pictures: Sequence[Tensor], files: Sequence[Path]) -> None:
        """Write pictures [3, H, W] in [0, 1]."""
        for path, picture in zip(files, pictures, strict=True):
            pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
            photo = Photo(pixels, format=written_format(path))
            write_photo(photo, path, overwrite=self.overwrite)
