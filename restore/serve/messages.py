"""What a worker process tells the server."""

from __future__ import annotations

from typing import Any, NamedTuple


class Ready(NamedTuple):
    """The model is loaded.

    Attributes:
        device: name of the device.
    """

    device: str


class Progressed(NamedTuple):
    """A call of the network is done.

    Attributes:
        step: calls done.
        steps: calls of the whole job, as far as known.
        seconds_left: time left, by the mean so far.
        preview: the clean estimate as a JPEG, now and then.
    """

    step: int
    steps: int
    seconds_left: float
    preview: bytes | None


class Failed(NamedTuple):
    """A job, or the start, failed.

    Attributes:
        text: what went wrong, for the user.
        is_known: True for an error raised on purpose, such as that of an option.
        code: exit code that the command would have.
    """

    text: str
    is_known: bool
    code: int


class File(NamedTuple):
    """A file of a result.

    Attributes:
        name: name that the server gives it; no name comes from a request.
        type: media type.
        data: content.
    """

    name: str
    type: str
    data: bytes


class Restored(NamedTuple):
    """The result of an order.

    Attributes:
        files: the restored picture, then its samples and their map, and a kernel.
        views: pictures for a browser of those that it cannot show, by the name of the file.
        report: how it was restored, as the JSON line of the command says it.
        words: what the consistency means.
    """

    files: list[File]
    views: dict[str, bytes]
    report: dict[str, Any]
    words: str
