"""What the routes of a server share: reading of requests, and the queue of jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from restore.errors import BadArgument, RestoreError, Unavailable, UnreadableInput
from restore.messages import complain
from restore.serve.fields import Form
from restore.serve.guard import Refusal
from restore.serve.jobs import Job, Queue, QueueFull, Worker
from restore.serve.order import Order, order_of
from restore.serve.settings import Limits

# Bytes of the options of a request.
_MOST_OPTIONS = 65_536
# Requests whose bodies are read at one time; others wait.
_READ_AT_ONCE = 8


class Server:
    """What the routes share.

    Args:
        forms: what requests may say, by task.
        workers: one for each device.
        limits: limits of requests and results.
    """

    def __init__(self, forms: Mapping[str, Form], workers: list[Worker], limits: Limits) -> None:
        self.forms = forms
        self.limits = limits
        self.queue = Queue(workers, limits)
        self._bodies = asyncio.Semaphore(_READ_AT_ONCE)
        self._decoding = asyncio.Lock()

    async def uploads(self, request: Request, most: int) -> tuple[str, dict[str, bytes]]:
        """Read the options and the files of a request.

        Raises:
            Refusal: it is no form, or has more than that.
        """
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refusal(415, "send a form (multipart/form-data) with the file `picture`")

        async with self._bodies:
            parser = MultiPartParser(
                request.headers,
                request.stream(),
                max_files=most,
                max_fields=1,
                max_part_size=_MOST_OPTIONS,
            )
            # within the limit of a body, so that nothing of a request is ever on the disk
            parser.spool_max_size = self.limits.bytes + 1
            try:
                form = await parser.parse()
            except MultiPartException as error:
                raise Refusal(400, f"the form cannot be read: {error.message}") from None
            except ClientDisconnect:
                raise Refusal(400, "the request ended too early") from None

            return await _parts(form)

    async def apart(self, function: Any, *arguments: Any) -> Any:
        """Call what decodes pictures in a thread, one at a time.

        Raises:
            Refusal: a picture or option that cannot be used.
        """
        async with self._decoding:
            try:
                return await asyncio.to_thread(function, *arguments)
            except RestoreError as error:
                raise refusal_of(error) from None
            except MemoryError:
                raise Refusal(413, "not enough memory for a picture of this size") from None
            except Exception as error:
                complain(f"{type(error).__name__}: {error}")
                raise Refusal(500, f"{type(error).__name__} in the server") from None

    async def ordered(self, form: Form, request: Request) -> Job:
        """Read and check an order, and put it into the queue.

        Raises:
            Refusal: it cannot be carried out, or too many wait.
        """
        self.check_room()
        options, files = await self.uploads(request, 1 + len(form.uploads))

        def checked() -> Order:
            order = order_of(form, options, files, self.limits.pixels)
            order.check(self.limits)
            return order

        order = await self.apart(checked)
        try:
            return self.queue.add(form.task.name, order)
        except QueueFull as error:
            raise _full(error) from None

    def check_room(self) -> None:
        """Refuse an order before it is read if too many wait.

        Raises:
            Refusal: too many do.
        """
        try:
            self.queue.check_room()
        except QueueFull as error:
            raise _full(error) from None

    def found(self, id: str) -> Job:
        """Return a job.

        Raises:
            Refusal: there is none.
        """
        job = self.queue.find(id)
        if job is None:
            raise Refusal(
                404,
                f"there is no such job, or no longer: results are kept for {self.limits.keep:g} s",
            )
        return job


def _of_request(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


# The server as the parameter of a route.
Shared = Annotated[Server, Depends(_of_request)]


def refusal_of(error: RestoreError) -> Refusal:
    """Return the answer to a request that causes an error."""
    if isinstance(error, UnreadableInput | Unavailable):
        return Refusal(415, str(error))
    return Refusal(400 if isinstance(error, BadArgument) else 500, str(error))


async def _parts(form: FormData) -> tuple[str, dict[str, bytes]]:
    """Return the options and the files of a form.

    Raises:
        Refusal: a part is there twice, or none of them.
    """
    options = ""
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name in files or (name == "options" and options):
            raise Refusal(400, f"the part `{name[:60]}` is there twice")
        if isinstance(value, UploadFile):
            files[name] = await value.read()
            await value.close()
        elif name == "options":
            options = value
        else:
            raise Refusal(400, f"the part `{name[:60]}` is unknown, or must be sent as a file")

    return options, files


def _full(error: QueueFull) -> Refusal:
    return Refusal(429, str(error), {"retry-after": str(error.seconds)})
