"""The files that go with pictures, such as their masks, found by name."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from restore.errors import BadArgument, FileAccess
from restore.files import looked_up
from restore.photo.photograph import SUFFIXES


@dataclass(frozen=True)
class Companions:
    """The companions of a run: one file for all pictures, or one for each.

    In a folder, a companion has the place and the name of its picture, or the name with what it is
    behind it, as ``a_mask.jpg`` for ``a.png``; in the folder of the picture itself the latter
    alone. Its suffix may be that of any picture. Accents may be written in one character or in two
    (NFC or NFD), as file systems do.

    Attributes:
        given: the file or folder; None looks beside each picture, if ``needed``.
        what: name of the parameter, such as ``mask``.
        needed: True if every picture needs one.
    """

    given: Path | None
    what: str = "mask"
    needed: bool = False
    _listings: dict[Path, _Listing] = field(default_factory=dict, repr=False, compare=False)

    def of(self, picture: Path, place: PurePath) -> Path | None:
        """Return the companion of a picture.

        Args:
            picture: the picture.
            place: its path below the input folder.

        Raises:
            FileAccess: there is no such file or folder as is given.
            BadArgument: none is found for the picture, or several.
        """
        if self.given is None:
            return self._beside(picture) if self.needed else None
        with looked_up(self.given):
            is_folder = self.given.is_dir()
        if not is_folder and not self.given.exists():
            raise FileAccess(f"`{self.what}`={self.given}: no such file or folder")
        if not is_folder and not self.given.is_file():
            raise FileAccess(
                f"`{self.what}`={self.given}: a named pipe, socket or device, not a file"
            )
        if not is_folder:
            return self.given

        return self._in_folder(picture, place, self.given)

    def takes(self, path: Path) -> bool:
        """Return True if a file in the input folder is a companion, and no picture to restore."""
        if self.given is None and not self.needed:
            return False
        if self.given is not None and not self.given.is_dir():
            return self.given.exists() and os.path.samefile(path, self.given)
        if self.given is not None and _folder(self.given) != _folder(path.parent):
            return False

        owner = path.stem.removesuffix(f"_{self.what}")
        return owner != path.stem and bool(self._named(path.parent, owner))

    def _beside(self, picture: Path) -> Path:
        found = self._named(picture.parent, f"{picture.stem}_{self.what}")
        if not found:
            raise BadArgument(
                f"Missing option `{self.what}`: there is no {picture.stem}_{self.what}.png beside "
                f"{picture} either"
            )
        return self._only(found, picture)

    def _in_folder(self, picture: Path, place: PurePath, given: Path) -> Path:
        """Return the companion in the folder that is given, which may hold the pictures, too."""
        folder = self._folder_of(place.parent, picture, given)
        found = self._named(folder, f"{picture.stem}_{self.what}")
        if _folder(folder) != _folder(picture.parent):
            found = [*self._named(folder, picture.stem), *found]
        if not found:
            raise BadArgument(f"`{self.what}`={given}: no {self.what} for {picture} there")

        return self._only(found, picture)

    def _folder_of(self, place: PurePath, picture: Path, given: Path) -> Path:
        """Return a folder of companions by its place below the one that is given."""
        folder = given
        for part in place.parts:
            alike = self._listed(folder).folders.get(_composed(part), [])
            folder = self._only(alike, picture) if alike else folder / part

        return folder

    def _only(self, found: Sequence[Path], picture: Path) -> Path:
        """Return the one file or folder that was found.

        Raises:
            BadArgument: there are several.
        """
        if len(found) == 1:
            return found[0]

        named = f"`{self.what}`" if self.given is None else f"`{self.what}`={self.given}"
        names = ", ".join(str(path) for path in found)
        same = len({_composed(path.name) for path in found}) < len(found)
        why = " (their accents are written in two ways, NFC and NFD)" if same else ""
        raise BadArgument(f"{named}: several {self.what}s for {picture} there: {names}{why}")

    def _named(self, folder: Path, stem: str) -> list[Path]:
        """Return the pictures in a folder that have a name without its suffix, in name order."""
        return self._listed(folder).files.get(_composed(stem), [])

    def _listed(self, folder: Path) -> _Listing:
        """Return what is in a folder, read once."""
        if folder not in self._listings:
            self._listings[folder] = _Listing.of(folder)
        return self._listings[folder]


class _Listing(NamedTuple):
    """What is in a folder, by composed names.

    Attributes:
        files: pictures by their names without suffixes, in name order.
        folders: folders by their names.
    """

    files: dict[str, list[Path]]
    folders: dict[str, list[Path]]

    @classmethod
    def of(cls, folder: Path) -> _Listing:
        listing = cls({}, {})
        for path in sorted(folder.glob("*")):
            if path.suffix.lower() in SUFFIXES:
                listing.files.setdefault(_composed(path.stem), []).append(path)
            elif path.is_dir():
                listing.folders.setdefault(_composed(path.name), []).append(path)

        return listing


def _composed(name: str) -> str:
    """Return a name with each accent in one character with its letter, where there is one."""
    return unicodedata.normalize("NFC", name)


def _folder(path: Path) -> str:
    return os.path.realpath(path)


# Of a run without any.
NO_MASKS = Companions(None)
NO_STARTS = Companions(None, "start")
