"""What stands before a server's routes: whom it answers, and how much it reads of them.

Pages of other sites can send requests to this machine through a person's browser. The name that a
request calls the server by (`Host`), the page that it comes from (`Origin`, `Sec-Fetch-Site`) and
the token tell them from those of the person's own page and programs.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from restore.messages import complain
from restore.serve.settings import Address, Limits
from restore.text import visible

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Headers of every answer. The policy lets the page load nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

# Paths that need no token: the page itself, which asks for it, and a sign of life.
_OPEN = "/api/health"
_PROTECTED = ("/api/", "/openapi.json")

# Seconds after which a request that comes beside too many others may come again.
_BUSY_SECONDS = 5


class Refusal(Exception):
    """A request that is answered with an error.

    Attributes:
        status: status of HTTP.
        text: one sentence for the user.
        headers: headers of the answer.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = visible(text)  # JSON cannot hold halves of characters
        self.headers = dict(headers or {})


class Guard:
    """An ASGI application around another one.

    Args:
        app: the application.
        address: where the server listens, and its token.
        limits: limits of bodies, and of requests at one time.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        app: App,
        address: Address,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self.address = address
        self.limits = limits
        self.clock = clock
        self._at_work = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                present = {name for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in HEADERS.items()]
                message["headers"] += [pair for pair in more if pair[0] not in present]
            await send(message)

        self._at_work += 1
        try:
            headers = _headers(scope)
            self._check_load()
            self._check(scope, headers)
            await self.app(scope, self._limited(headers, receive), send_on)
        except Refusal as refusal:
            if begun:
                raise
            await answer(refusal, send_on)
        except Exception as error:
            complain(f"{type(error).__name__}: {error}")
            if begun:
                raise
            await answer(Refusal(500, f"{type(error).__name__} in the server"), send_on)
        finally:
            self._at_work -= 1

    def _check_load(self) -> None:
        """Refuse a request beside too many others.

        Raises:
            Refusal: the server is at too many.
        """
        if self._at_work > self.limits.requests:
            raise Refusal(
                503,
                f"the server is busy with {self.limits.requests} requests, the most at one "
                f"time; try again in {_BUSY_SECONDS} s",
                {"retry-after": str(_BUSY_SECONDS)},
            )

    def _check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Refuse a request that does not come from the person's own page or program.

        Raises:
            Refusal: it may not.
        """
        host = headers.get("host", "")
        if not self.address.allows(_name(host)):
            raise Refusal(
                421,
                f"this server is not known as {host[:100] or 'nothing'}; start it with "
                "--allow-host NAME to call it by another name",
            )

        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        visits = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        is_page = not scope["path"].startswith(_PROTECTED)
        if origin is not None and not _is_same(origin, host):
            raise Refusal(403, "requests from pages of other sites are refused")
        if site not in ("none", "same-origin") and not (visits and is_page):
            raise Refusal(403, "requests from pages of other sites are refused")

        if scope["path"].startswith(_PROTECTED) and scope["path"] != _OPEN:
            self._check_token(headers.get("authorization", ""))

    def _check_token(self, given: str) -> None:
        """Compare the token in a time that does not depend on it.

        Raises:
            Refusal: it is missing or another one.
        """
        token = self.address.token
        if token is None:
            return

        kind, _, secret = given.partition(" ")
        right = hmac.compare_digest(_digest(secret.strip()), _digest(token))
        if kind.lower() != "bearer" or not right:
            what = "wrong" if given else "missing"
            raise Refusal(
                401,
                f"the token is {what}; send it as Authorization: Bearer TOKEN",
                {"www-authenticate": "Bearer"},
            )

    def _limited(self, headers: Mapping[str, str], receive: Receive) -> Receive:
        """Return a `receive` that refuses bodies that are too large or too slow.

        Raises:
            Refusal: the header says already that it is too large.
        """
        most = self.limits.bytes
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > most:
            raise _too_large(most)

        left = most
        until = self.clock() + self.limits.body_seconds
        is_whole = False

        async def receive_within() -> Message:
            nonlocal left, is_whole
            if is_whole:
                return await receive()
            seconds = max(0.0, min(self.limits.idle_seconds, until - self.clock()))
            try:
                message = await asyncio.wait_for(receive(), seconds)
            except TimeoutError:
                raise Refusal(
                    408,
                    "the request came too slowly",
                    {"connection": "close"},
                ) from None

            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large(most)
            is_whole = not message.get("more_body", False)
            return message

        return receive_within


async def answer(refusal: Refusal, send: Send) -> None:
    """Send a refusal."""
    body = json.dumps({"error": refusal.text}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refusal.headers,
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _digest(token: str) -> bytes:
    """Return a digest, whose length says nothing about the token."""
    return hashlib.sha256(token.encode()).digest()


def _too_large(most: int) -> Refusal:
    return Refusal(
        413,
        f"the request is too large; at most {most / 1e6:.0f} MB are taken",
        {"connection": "close"},
    )


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by name; of one that comes twice, both with a comma between."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]},{text}" if key in found else text
    return found


def _name(host: str) -> str:
    """Return the name in ``NAME:PORT`` or ``[ADDRESS]:PORT``."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.rpartition(":")[0] if ":" in host else host


def _is_same(origin: str, host: str) -> bool:
    """Return True if a page's origin is the host that it calls.

    A proxy may speak TLS to the page and none to this server, so the scheme does not count.
    """
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return False

    usual = {"http": 80, "https": 443}[parts.scheme]
    own = urlsplit(f"//{host}")
    try:
        own_port = own.port
    except ValueError:
        return False
    return (
        parts.hostname is not None
        and parts.hostname == own.hostname
        and (port or usual) == (own_port or usual)
    )
