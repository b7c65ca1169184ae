"""The routes of a server: the API, its description, and the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from restore import __version__
from restore.errors import BadArgument, RestoreError, Unavailable, UnreadableInput
from restore.messages import complain
from restore.photo.apart import decoding_apart
from restore.serve.fields import Form
from restore.serve.guard import Guard, Refusal
from restore.serve.jobs import Job, Queue, QueueFull, Worker
from restore.serve.order import Order, order_of
from restore.serve.settings import Address, Limits
from restore.serve.view import view

PAGE = Path(__file__).parent / "page"
# Files of the page, and their media types.
_PAGE_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "api.html": "text/html; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
}

# Bytes of the options of a request.
_MOST_OPTIONS = 65_536
# Requests whose bodies are read at one time; others wait.
_READ_AT_ONCE = 8
# Seconds between two signs of life of a stream.
_SIGN_SECONDS = 15.0


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
                    raise Refusal(
                        400, f"the part `{name[:60]}` is unknown, or must be sent as a file"
                    )

        return options, files

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

    def told(self, job: Job) -> dict[str, Any]:
        """Return the state of a job for JSON."""
        place = f"api/jobs/{job.id}"
        told: dict[str, Any] = {
            "id": job.id,
            "task": job.task,
            "state": job.state,
            "step": job.step,
            "steps": job.steps,
            "seconds_left": job.seconds_left,
            "links": {"job": place},
        }
        if job.state == "queued":
            told["before"] = self.queue.position(job)
        if job.preview is not None and not job.is_over:
            told["links"]["preview"] = f"{place}/preview?number={job.previews}"
        if job.error is not None:
            told["error"] = job.error
        if (restored := job.restored) is not None:
            told["report"] = restored.report
            told["words"] = restored.words
            told["files"] = [
                {
                    "name": file.name,
                    "type": file.type,
                    "bytes": len(file.data),
                    "link": f"{place}/files/{file.name}",
                    "view": f"{place}/views/{file.name}" if file.name in restored.views else None,
                }
                for file in restored.files
            ]
        return told

    async def stream(self, job: Job) -> AsyncIterator[bytes]:
        """Yield server-sent events: the state of a job at once, after each change, and the end."""
        job.watchers += 1
        try:
            async for has_changed in job.changes(_SIGN_SECONDS):
                if has_changed:
                    yield f"event: {job.state}\ndata: {json.dumps(self.told(job))}\n\n".encode()
                else:
                    yield b": still here\n\n"
        finally:
            job.watchers -= 1
            self.queue.left(job)


def make_app(
    forms: Mapping[str, Form],
    workers: list[Worker],
    address: Address | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Return the application of a server.

    Args:
        forms: what requests may say, by task.
        workers: one for each device; they are closed when the application ends.
        address: whom it answers; None is this machine.
        limits: limits of requests and results.
    """
    address = address or Address()
    limits = limits or Limits()
    server = Server(forms, workers, limits)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with decoding_apart(keep=True):
            try:
                yield
            finally:
                server.queue.close()

    app = FastAPI(
        title="restore",
        version=__version__,
        description="Restore photographs: the tasks of the command over HTTP.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.server = server
    app.add_middleware(Guard, address=address, limits=limits)
    _add_errors(app)
    _add_jobs(app, server)
    for form in forms.values():
        _add_task(app, server, form)
    _add_page(app)

    return app


def refusal_of(error: RestoreError) -> Refusal:
    """Return the answer to a request that causes an error."""
    if isinstance(error, UnreadableInput | Unavailable):
        return Refusal(415, str(error))
    return Refusal(400 if isinstance(error, BadArgument) else 500, str(error))


def _add_errors(app: FastAPI) -> None:
    """Have every error told in one sentence of JSON."""

    @app.exception_handler(Refusal)
    def refused(request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"error": error.text}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    def not_served(request: Request, error: HTTPException) -> JSONResponse:
        texts = {
            404: "there is nothing at this address",
            405: "this method is not for this address",
        }
        text = texts.get(error.status_code, str(error.detail))
        return JSONResponse({"error": text}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        named = ", ".join(str(one["loc"][-1])[:60] for one in error.errors())
        return JSONResponse({"error": f"invalid: {named}"}, 400)


def _add_jobs(app: FastAPI, server: Server) -> None:
    queue = server.queue

    @app.get("/api/health", summary="Sign of life, and how busy the server is")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "version": __version__,
            "devices": [
                {"device": worker.device, "loaded": worker.is_ready} for worker in queue.workers
            ],
            "running": queue.running,
            "waiting": queue.waiting,
            "longest_queue": server.limits.queue,
        }

    @app.get("/api/tasks", summary="The tasks with their options, types and defaults")
    async def tasks() -> dict[str, Any]:
        return {
            "tasks": [form.described for form in server.forms.values()],
            "limits": {
                "bytes": server.limits.bytes,
                "pixels": server.limits.pixels,
                "result_pixels": server.limits.result_pixels,
                "keep_seconds": server.limits.keep,
            },
        }

    @app.post(
        "/api/view",
        summary="The picture as a browser shows it: 8 bits, upright",
        response_class=Response,
        openapi_extra={"requestBody": _body({"picture": "A picture of any format that is read."})},
    )
    async def viewed(request: Request) -> Response:
        _, files = await server.uploads(request, 1)
        if not files.get("picture"):
            raise Refusal(400, "the part `picture` is missing; send it as a file")
        data, type, facts = await server.apart(view, files["picture"], server.limits.pixels)
        return Response(data, media_type=type, headers={"picture-facts": json.dumps(facts)})

    @app.get(
        "/api/jobs/{id}",
        summary="State of a job; as server-sent events if text/event-stream is accepted",
        response_model=None,
    )
    async def job(id: str, request: Request) -> Response:
        found = server.found(id)
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(
                server.stream(found),
                media_type="text/event-stream",
                headers={"x-accel-buffering": "no"},
            )
        return JSONResponse(server.told(found))

    @app.delete("/api/jobs/{id}", summary="Cancel a job, or forget its result", status_code=204)
    async def cancel(id: str) -> None:
        queue.remove(server.found(id))

    @app.get("/api/jobs/{id}/preview", summary="The clean estimate so far", response_model=None)
    async def preview(id: str) -> Response:
        found = server.found(id)
        if found.preview is None:
            raise Refusal(404, "there is no preview yet")
        return Response(found.preview, media_type="image/jpeg")

    @app.get("/api/jobs/{id}/files/{name}", summary="A file of the result", response_model=None)
    async def file(id: str, name: str) -> Response:
        restored = server.found(id).restored
        for one in () if restored is None else restored.files:
            if one.name == name:
                saved = {"content-disposition": f'attachment; filename="{one.name}"'}
                return Response(one.data, media_type=one.type, headers=saved)
        raise Refusal(404, "the job has no such file")

    @app.get(
        "/api/jobs/{id}/views/{name}",
        summary="A file of the result, if browsers do not show it, as they do",
        response_model=None,
    )
    async def shown(id: str, name: str) -> Response:
        restored = server.found(id).restored
        if restored is None or name not in restored.views:
            raise Refusal(404, "the job has no such view")
        data = restored.views[name]
        type = "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"
        return Response(data, media_type=type)


def _add_task(app: FastAPI, server: Server, form: Form) -> None:
    files = {"picture": "The picture to restore."}
    files |= {upload.name: upload.help for upload in form.uploads.values()}
    required = ["picture", *(one.name for one in form.uploads.values() if one.required)]
    options = {
        "type": "object",
        "properties": {name: field.schema for name, field in form.fields.items()},
        "required": [name for name, field in form.fields.items() if field.required],
        "additionalProperties": False,
    }

    async def restore(request: Request, wait: bool = True) -> Response:
        job = await server.ordered(form, request)
        if not wait:
            place = f"api/jobs/{job.id}"
            return JSONResponse(server.told(job), 202, {"location": f"/{place}"})
        return await _waited(server, job, request)

    app.add_api_route(
        f"/api/restore/{form.task.name}",
        restore,
        methods=["POST"],
        response_model=None,
        summary=form.task.about,
        description="Returns the restored picture; with `wait=false` its job, which "
        "GET /api/jobs/{id} follows. A full queue is told by 429 and Retry-After.",
        operation_id=f"restore_{form.task.name}",
        openapi_extra={"requestBody": _body(files, required, options)},
    )


async def _waited(server: Server, job: Job, request: Request) -> Response:
    """Wait for a job while the client does, and return its picture."""
    gone = asyncio.ensure_future(_gone(request))
    over = asyncio.ensure_future(job.over())
    try:
        await asyncio.wait([gone, over], return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
        over.cancel()
        if not job.is_over:
            server.queue.cancel(job)

    if job.restored is None:
        server.queue.remove(job)
        if job.state != "failed":
            raise Refusal(503, "the job was cancelled")
        raise Refusal(400 if job.is_known else 500, job.error or "the job failed")

    first = job.restored.files[0]
    report = json.dumps({**job.restored.report, "words": job.restored.words})
    headers = {
        "content-disposition": f'attachment; filename="{first.name}"',
        "location": f"/api/jobs/{job.id}",
        "restore-report": report,
    }
    return Response(first.data, media_type=first.type, headers=headers)


async def _gone(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_page(app: FastAPI) -> None:
    names = {f"/{name}": name for name in _PAGE_FILES} | {"/": "index.html", "/docs": "api.html"}
    for place, name in names.items():
        app.add_api_route(
            place, partial(_page_file, name), include_in_schema=False, response_model=None
        )


async def _page_file(name: str) -> Response:
    headers = {"cache-control": "no-cache"}
    return Response((PAGE / name).read_bytes(), media_type=_PAGE_FILES[name], headers=headers)


def _full(error: QueueFull) -> Refusal:
    return Refusal(429, str(error), {"retry-after": str(error.seconds)})


def _body(
    files: Mapping[str, str],
    required: list[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the description of a form."""
    binary = {"type": "string", "contentMediaType": "application/octet-stream"}
    parts: dict[str, Any] = {name: {**binary, "description": text} for name, text in files.items()}
    encoding = {}
    if options is not None:
        parts["options"] = options
        encoding = {"encoding": {"options": {"contentType": "application/json"}}}
    schema = {"type": "object", "properties": parts, "required": required or list(files)}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema, **encoding}}}
