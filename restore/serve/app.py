"""The application of a server: its routes, its guard, and how it tells errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from restore import __version__
from restore.photo.apart import decoding_apart
from restore.serve.fields import Form
from restore.serve.guard import Guard, Refusal
from restore.serve.jobs import Worker
from restore.serve.routes import jobs
from restore.serve.routes.page import router_of_page
from restore.serve.routes.tasks import router_of
from restore.serve.server import Server
from restore.serve.settings import Address, Limits


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
    for router in (router_of(forms), jobs.router, router_of_page()):
        app.include_router(router)

    return app


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
