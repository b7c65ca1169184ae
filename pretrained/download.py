"""One file from the network into a folder: resumed where it was cut off, checked, and there whole
or not at all.

`pooch` keeps what arrives under another name, compares its digest and renames it; what is added
here is to go on with the bytes of an earlier attempt (HTTP's Range, RFC 9110, section 14) and to
try one mirror after the other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pretrained.catalogue import RemoteFile
from pretrained.errors import CheckpointError

if TYPE_CHECKING:
    from requests import Response

OFFLINE_VARIABLE = "RESTORE_OFFLINE"
TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
TRIES = 5
"""In a row that may bring nothing new, once something has come from an address."""
PAUSE = 1.0
"""Seconds before the second of them; the others wait longer."""
_CHUNK = 2**16

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are here and, where it is known, their number in the end."""


class CacheError(CheckpointError):
    """The folder where checkpoints are kept cannot be read or written; the text says why."""


class _Unusable(Exception):
    """An address does not give the file; the text says why."""


class _AnotherFile(_Unusable):
    """It gives another one."""


def is_offline() -> bool:
    """Whether the network must not be touched."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def download(file: RemoteFile, folder: Path, progress: Progress = lambda done, total: None) -> str:
    """Fetch a file from the first of its addresses that gives it; returns that address.

    Without network, or with the process killed half-way, the next call goes on where this one
    ended.

    Raises:
        CheckpointError: no address gives the file as it was published; the text says what each one
            answered.
        CacheError: the folder cannot be written, or the disk is full.
    """
    refused = []
    for address in file.addresses:
        try:
            _keep(file, folder, address, _Resumed(file, progress))
            return address
        except _Unusable as error:
            refused.append(f"{address}: {error}")

    raise CheckpointError(f"{file.name} could not be downloaded; {'; '.join(refused)}")


def take_over(file: RemoteFile, folder: Path, source: Path) -> None:
    """Copy a file that was fetched by other means into the folder, with the same checks.

    Raises:
        CheckpointError: another file than the one that was published.
        CacheError: it cannot be read, or the folder not be written.
    """

    def copy(address: str, target: str, _pooch: object) -> None:
        _check_size(file, source.stat().st_size)
        shutil.copyfile(source, target)

    try:
        _keep(file, folder, str(source), copy)
    except _Unusable as error:
        raise CheckpointError(f"{source}: {error}") from None


def get_json(address: str) -> object:
    """A small answer of a server.

    Raises:
        CheckpointError: none came, or something else than JSON.
    """
    import requests

    try:
        with _open(address, {}) as response:
            return response.json()
    except (_Unusable, requests.RequestException, ValueError) as error:
        raise CheckpointError(f"{address}: {_reason(error)}") from None


def _keep(
    file: RemoteFile, folder: Path, address: str, fetch: Callable[[str, str, object], None]
) -> None:
    """Have ``fetch`` write the file, compare its digest and rename it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would tell of every file
    known = file.sha256 or (f"md5:{file.md5}" if file.md5 else None)

    with _writing(folder):
        if known is None:  # pooch would take whatever has this name
            (folder / file.name).unlink(missing_ok=True)
        try:
            pooch.retrieve(
                address, known_hash=known, fname=file.name, path=folder, downloader=fetch
            )
        except ValueError as error:
            raise _AnotherFile(f"is not the file that was published: {error}") from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise CacheError(
            f"{error.filename or folder}: cannot be written: {reason}; make room or choose another "
            "folder by RESTORE_CACHE=FOLDER (a download goes on where it was)"
        ) from None


class _Resumed:
    """A downloader for `pooch` that goes on with what an earlier attempt left.

    What has come lies beside the target, one file for each address, with the server's validator
    (its ETag): if the file there has changed since, the server sends it from the beginning.
    """

    def __init__(self, file: RemoteFile, progress: Progress) -> None:
        self.file = file
        self.progress = progress

    def __call__(self, address: str, target: str, _pooch: object) -> None:
        import requests

        mark = hashlib.sha256(address.encode()).hexdigest()[:8]
        partial = Path(target).parent / f"{self.file.name}.{mark}.partial"
        left = 0

        while True:
            before = _size(partial)
            try:
                self._go_on(address, partial)
                break
            except _AnotherFile:
                _discard(partial)
                raise
            except requests.RequestException as error:
                left = TRIES if _size(partial) > before else left - 1
                if left < 1:
                    raise _Unusable(_reason(error)) from None
                time.sleep(PAUSE * (TRIES - left))

        try:
            _check_size(self.file, _size(partial))
            os.replace(partial, target)
        finally:
            _discard(partial)

    def _go_on(self, address: str, partial: Path) -> None:
        have = _size(partial)
        if self.file.size is not None and have == self.file.size:
            return

        with _open(address, _range(partial, have)) as response:
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise _AnotherFile("sends a web page instead of a file")
            have = have if response.status_code == 206 else 0
            length = response.headers.get("Content-Length")
            total = self.file.size if length is None else have + int(length)
            if total is not None:
                _check_size(self.file, total)
                _check_space(partial.parent, total - have)
            _validator(partial).write_text(response.headers.get("ETag", ""), encoding="utf-8")
            with open(partial, "ab" if have else "wb") as out:
                for chunk in response.iter_content(_CHUNK):
                    out.write(chunk)
                    have += len(chunk)
                    self.progress(have, total)


@contextmanager
def _open(address: str, headers: dict[str, str]) -> Iterator[Response]:
    """A server's answer, if it is one that can be used."""
    if is_offline():
        raise CheckpointError(f"{OFFLINE_VARIABLE} is set, so {address} is not asked")

    import requests

    headers = {"Accept-Encoding": "identity", **headers}

    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and "Range" in headers:  # nothing lies behind what is here
            with _open(address, {}) as whole:
                yield whole
            return
        if not response.ok:
            raise _Unusable(f"answers {response.status_code} {response.reason}")
        yield response


def _range(partial: Path, have: int) -> dict[str, str]:
    """Ask for the rest, or for the whole if it has changed."""
    if not have:
        return {}
    etag = _validator(partial).read_text(encoding="utf-8") if _validator(partial).exists() else ""
    strong = {"If-Range": etag} if etag and not etag.startswith("W/") else {}
    return {"Range": f"bytes={have}-", **strong}


def _validator(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _discard(partial: Path) -> None:
    for path in (partial, _validator(partial)):
        path.unlink(missing_ok=True)


def _check_size(file: RemoteFile, size: int) -> None:
    if file.size is not None and size != file.size:
        raise _AnotherFile(f"has {size:,} bytes; the file that was published has {file.size:,}")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CacheError(
            f"{folder}: {needed / 1e6:,.0f} MB are to come and {free / 1e6:,.0f} MB are free; make "
            "room, or choose another folder by RESTORE_CACHE=FOLDER"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    """What went wrong in a connection, in the words of the deepest cause."""
    import requests

    cause: BaseException = error
    while (
        isinstance(cause, requests.RequestException)
        and cause.args
        and isinstance(cause.args[0], BaseException)
    ):
        cause = cause.args[0]

    cause = getattr(cause, "reason", None) or cause

    return (
        f"no connection, or it was cut off ({cause})"
        if isinstance(error, requests.RequestException)
        else str(cause)
    )
