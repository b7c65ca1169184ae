"""The routes that take pictures, one for each task, and those that describe the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from restore import __version__
from restore.serve.fields import Form
from restore.serve.guard import Refusal
from restore.serve.jobs import Job
from restore.serve.routes.jobs import told
from restore.serve.server import Server, Shared
from restore.serve.view import view

# What a picture may be, for the description of a form.
_ANY_PICTURE = "A picture of any format that is read."


def router_of(forms: Mapping[str, Form]) -> APIRouter:
    """Return the routes for tasks.

    Args:
        forms: what requests may say, by task.
    """
    router = APIRouter(prefix="/api")
    router.add_api_route("/health", health, summary="Sign of life, and how busy the server is")
    router.add_api_route(
        "/tasks", tasks, summary="The tasks with their options, types and defaults"
    )
    router.add_api_route(
        "/view",
        viewed,
        methods=["POST"],
        summary="The picture as a browser shows it: 8 bits, upright",
        response_class=Response,
        openapi_extra={"requestBody": _body({"picture": _ANY_PICTURE})},
    )
    for form in forms.values():
        _add_task(router, form)
    router.add_api_route("/restore/{task}", unknown, methods=["POST"], include_in_schema=False)

    return router


async def health(server: Shared) -> dict[str, Any]:
    queue = server.queue
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


async def tasks(server: Shared) -> dict[str, Any]:
    return {
        "tasks": [form.described for form in server.forms.values()],
        "limits": {
            "bytes": server.limits.bytes,
            "pixels": server.limits.pixels,
            "result_pixels": server.limits.result_pixels,
            "keep_seconds": server.limits.keep,
        },
    }


async def viewed(request: Request, server: Shared) -> Response:
    _, files = await server.uploads(request, 1)
    if not files.get("picture"):
        raise Refusal(400, "the part `picture` is missing; send it as a file")
    data, type, facts = await server.apart(view, files["picture"], server.limits.pixels)
    return Response(data, media_type=type, headers={"picture-facts": json.dumps(facts)})


async def unknown(task: str, server: Shared) -> None:
    raise Refusal(
        404,
        f"there is no task {task[:60]} here, but {', '.join(server.forms)}; camera raws, clips "
        "and measurements are for the command",
    )


def _add_task(router: APIRouter, form: Form) -> None:
    files = {"picture": "The picture to restore."}
    files |= {upload.name: upload.help for upload in form.uploads.values()}
    required = [
        "picture",
        *(one.name for one in form.uploads.values() if one.required and not one.words),
    ]

    async def restore(request: Request, server: Shared, wait: bool = True) -> Response:
        job = await server.ordered(form, request)
        if not wait:
            place = f"api/jobs/{job.id}"
            return JSONResponse(told(server, job), 202, {"location": f"/{place}"})
        return await _waited(server, job, request)

    router.add_api_route(
        f"/restore/{form.task.name}",
        restore,
        methods=["POST"],
        response_model=None,
        summary=form.about,
        description="Returns the restored picture; with wait=false its job, which "
        "GET /api/jobs/{id} follows. A full queue is told by 429 and Retry-After.",
        operation_id=f"restore_{form.task.name}",
        openapi_extra={"requestBody": _body(files, required, form.schema)},
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
