"""The files of the page, as they lie in the package."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

PAGE = Path(__file__).parents[1] / "page"
# Media types by suffix.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
# Files with an address of their own.
_PLACES = {"/": "index.html", "/docs": "api.html"}


def router_of_page() -> APIRouter:
    """Return the routes of the page, one for each file."""
    router = APIRouter()
    names = sorted(path.name for path in PAGE.iterdir() if path.suffix in _TYPES)
    for place, name in ({f"/{name}": name for name in names} | _PLACES).items():
        router.add_api_route(
            place, partial(_file, name), include_in_schema=False, response_model=None
        )
    return router


async def _file(name: str) -> Response:
    path = PAGE / name
    headers = {"cache-control": "no-cache"}
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=headers)
