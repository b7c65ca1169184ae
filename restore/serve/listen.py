"""The socket of a server, and its life from the start to a signal."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from restore.errors import BadArgument, Unavailable
from restore.serve.settings import Address, Limits

# Seconds in which answers that are being sent may end when the server does.
_ENDING_SECONDS = 2


def bound(address: Address) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        BadArgument: there is no such address on this machine.
        Unavailable: the port is in use, or may not be used.
    """
    named = f"`host`={address.host}"
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadArgument(f"{named}: no such address: {error.strerror or error}") from None

    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(256)
    except OSError as error:
        listening.close()
        raise Unavailable(
            f"`port`={address.port}: cannot be listened on at {address.host}: "
            f"{error.strerror or error}; give another one, or 0 for any that is free"
        ) from None

    return listening


def listen(
    app: FastAPI, listening: socket.socket, limits: Limits, started: Callable[[], None]
) -> None:
    """Answer requests until a signal ends the server.

    Args:
        app: the application.
        listening: the socket.
        limits: limits of the time in which headers must come.
        started: called when requests are answered.

    Raises:
        KeyboardInterrupt: as the signal's own handler raises it.
    """
    # what these warn of is the client's fault, and told to it
    logging.getLogger("python_multipart").setLevel(logging.ERROR)

    class Protocol(_Protocol):
        header_seconds = limits.idle_seconds

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_ENDING_SECONDS,
    )
    _Server(config, app, started).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that ends the jobs first, so that nobody waits for their answers."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.server.queue.close()
        # it logs the traceback of every request that the end cuts off
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


class _Protocol(H11Protocol):
    """Closes a connection on which the header of a request does not come in time."""

    header_seconds = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_at_request():
            self._expect_nothing()
        elif self._deadline is None:
            self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def _is_at_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_header(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self._close_if_late)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_if_late(self) -> None:
        self._deadline = None
        if not self._is_at_request():
            self.transport.close()
