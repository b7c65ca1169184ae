"""The routes of a job: its state and progress, its preview, its files, and its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from restore.serve.guard import Refusal
from restore.serve.jobs import Job
from restore.serve.server import Server, Shared

# Seconds between two signs of life of a stream.
_SIGN_SECONDS = 15.0

router = APIRouter(prefix="/api/jobs")


@router.get(
    "/{id}",
    summary="State of a job; as server-sent events if text/event-stream is accepted",
    response_model=None,
)
async def state(id: str, request: Request, server: Shared) -> Response:
    job = server.found(id)
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(
            stream(server, job),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},
        )
    return JSONResponse(told(server, job))


@router.delete("/{id}", summary="Cancel a job, or forget its result", status_code=204)
async def cancel(id: str, server: Shared) -> None:
    server.queue.remove(server.found(id))


@router.get("/{id}/preview", summary="The clean estimate so far", response_model=None)
async def preview(id: str, server: Shared) -> Response:
    job = server.found(id)
    if job.preview is None:
        raise Refusal(404, "there is no preview yet")
    return Response(job.preview, media_type="image/jpeg")


@router.get("/{id}/files/{name}", summary="A file of the result", response_model=None)
async def file(id: str, name: str, server: Shared) -> Response:
    restored = server.found(id).restored
    for one in () if restored is None else restored.files:
        if one.name == name:
            saved = {"content-disposition": f'attachment; filename="{one.name}"'}
            return Response(one.data, media_type=one.type, headers=saved)
    raise Refusal(404, "the job has no such file")


@router.get(
    "/{id}/views/{name}",
    summary="A file of the result, if browsers do not show it, as they do",
    response_model=None,
)
async def view(id: str, name: str, server: Shared) -> Response:
    restored = server.found(id).restored
    if restored is None or name not in restored.views:
        raise Refusal(404, "the job has no such view")
    data = restored.views[name]
    type = "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"
    return Response(data, media_type=type)


def told(server: Server, job: Job) -> dict[str, Any]:
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
        told["before"] = server.queue.position(job)
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


async def stream(server: Server, job: Job) -> AsyncIterator[bytes]:
    """Yield server-sent events: the state of a job at once, after each change, and the end."""
    job.watchers += 1
    try:
        async for has_changed in job.changes(_SIGN_SECONDS):
            if has_changed:
                yield f"event: {job.state}\ndata: {json.dumps(told(server, job))}\n\n".encode()
            else:
                yield b": still here\n\n"
    finally:
        job.watchers -= 1
        server.queue.left(job)
