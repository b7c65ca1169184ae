"""Downloads: resumed where they were cut off, checked, and complete or absent.

`pooch` downloads to a temporary name, checks the digest and renames the file. This module adds
resuming with the bytes of an earlier attempt (HTTP Range, RFC 9110, section 14) and mirrors.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pretrained.catalogue import RemoteFile
from pretrained.errors import CheckpointError
from pretrained.tables import parse_json

if TYPE_CHECKING:
    from requests import Response

OFFLINE_VARIABLE = "RESTORE_OFFLINE"

# Seconds to wait for a connection, and for the next bytes.
TIMEOUT = (10.0, 60.0)

# Slowest useful connection: fewer bytes in so many seconds count as none.
SLOWEST = 1024
SLOW_SECONDS = 60.0

# Bytes of the largest file of unknown size, and of the largest JSON document.
LARGEST = 64 * 2**30
LARGEST_JSON = 16 * 2**20

# Attempts in a row without new bytes, once an address has sent some.
TRIES = 5

# Seconds before the second of these attempts; each further one waits a pause longer.
PAUSE = 1.0

_CHUNK = 2**16

# Called with the number of bytes received and, where it is known, the total.
Progress = Callable[[int, "int | None"], None]


class CacheError(CheckpointError):
    """The folder of downloaded checkpoints cannot be read or written."""


class _Unusable(Exception):
    """An address does not give the file; the text says why."""


class _AnotherFile(_Unusable):
    """An address gives a different file."""


def is_offline() -> bool:
    """Whether network access is forbidden, by the environment variable ``RESTORE_OFFLINE``."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def download(file: RemoteFile, folder: Path, progress: Progress = lambda done, total: None) -> str:
    """Download a file from the first of its addresses that has it.

    A call that is killed or loses the network is resumed by the next one.

    Args:
        file: The file.
        folder: Where to store it.
        progress: See `Progress`.

    Returns:
        The address that it came from.

    Raises:
        CheckpointError: No address has the published file; the text has the answer of each.
        CacheError: The folder cannot be written, or the disk is full.
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
        CheckpointError: The file differs from the published one.
        CacheError: It cannot be read, or the folder cannot be written.
    """

    def copy(address: str, target: str, _pooch: object) -> None:
        _check_size(file, source.stat().st_size)
        shutil.copyfile(source, target)

    try:
        _keep(file, folder, str(source), copy)
    except _Unusable as error:
        raise CheckpointError(f"{source}: {error}") from None


def get_json(address: str) -> object:
    """Fetch a small JSON document.

    Raises:
        CheckpointError: No answer, or one that is not JSON.
    """
    import requests

    try:
        with _open(address, {}) as response:
            return parse_json(_document(response))
    except (_Unusable, requests.RequestException, ValueError) as error:
        raise CheckpointError(f"{address}: {_reason(error)}") from None


def _keep(
    file: RemoteFile, folder: Path, address: str, fetch: Callable[[str, str, object], None]
) -> None:
    """Let ``fetch`` write the file under a temporary name, check its digest and rename it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # else it reports every file
    known = file.sha256 or (f"md5:{file.md5}" if file.md5 else None)

    with _writing(folder):
        if known is None:  # else pooch takes any file of this name
            (folder / file.name).unlink(missing_ok=True)
        try:
            pooch.retrieve(
                address, known_hash=known, fname=file.name, path=folder, downloader=fetch
            )
        except ValueError as error:
            raise _AnotherFile(f"is not the file that was published: {error}") from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise CacheError for an OSError within."""
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
    """A downloader for `pooch` that resumes earlier attempts.

    The bytes received so far are beside the target, one file per address, with the server's
    validator (ETag): if the remote file has changed since, the server sends all of it again.
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
                most = LARGEST if total is None else total
                for chunk in _in_time(_arriving(response)):
                    have += len(chunk)
                    if have > most:
                        raise _AnotherFile(f"sends more than the {most:,} bytes of the file")
                    out.write(chunk)
                    self.progress(have, total)


def _arriving(response: Response) -> Iterator[bytes]:
    """Yield the bytes of an answer as they arrive, without waiting until a chunk is full.

    Raises:
        requests.ConnectionError: The connection was cut off.
    """
    import requests
    from urllib3.exceptions import HTTPError

    try:
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            yield chunk
    except HTTPError as error:
        raise requests.ConnectionError(error) from error


def _in_time(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of an answer unless it comes too slowly to ever end.

    Raises:
        _Unusable: Fewer than `SLOWEST` bytes a second came, for `SLOW_SECONDS`.
    """
    since = time.monotonic()
    received = 0

    for chunk in chunks:
        received += len(chunk)
        passed = time.monotonic() - since
        if passed > SLOW_SECONDS:
            if received < SLOWEST * passed:
                raise _Unusable(f"is too slow: {received} bytes in {passed:.0f} seconds")
            since, received = time.monotonic(), 0
        yield chunk


def _document(response: Response) -> bytes:
    """Return a whole answer of at most `LARGEST_JSON` bytes."""
    document = b""
    for chunk in _in_time(_arriving(response)):
        document += chunk
        if len(document) > LARGEST_JSON:
            raise _Unusable(f"sends more than {LARGEST_JSON:,} bytes")

    return document


@contextmanager
def _open(address: str, headers: dict[str, str]) -> Iterator[Response]:
    """Yield the response of a server if it is a success.

    Raises:
        CheckpointError: Network access is forbidden.
        _Unusable: The server answers with an error.
    """
    if is_offline():
        raise CheckpointError(f"{OFFLINE_VARIABLE} is set, so {address} is not asked")

    import requests

    headers = {"Accept-Encoding": "identity", **headers}

    with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416 and "Range" in headers:  # no bytes after those received
            with _open(address, {}) as whole:
                yield whole
            return
        if not response.ok:
            raise _Unusable(f"answers {response.status_code} {response.reason}")
        yield response


def _range(partial: Path, have: int) -> dict[str, str]:
    """Headers that ask for the missing bytes, or for the whole file if it has changed."""
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
    """Describe a failed connection by its deepest cause."""
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
