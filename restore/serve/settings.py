"""What a server is told when it starts: where it listens, whom it answers, and its limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from restore.errors import BadArgument

# Least number of characters of a token, which must not be guessed.
LEAST_TOKEN = 16


@dataclass(frozen=True)
class Limits:
    """Limits of a server; a request beyond one is refused with a 4xx status.

    Attributes:
        queue: jobs that may wait; one more is refused with 429.
        keep: seconds for which results are kept.
        keep_bytes: bytes of all results that are kept; the oldest are removed first.
        bytes: bytes of the body of a request.
        pixels: pixels of an uploaded picture.
        result_pixels: pixels of all samples of a result together.
        seconds: seconds of work on one job.
        body_seconds: seconds in which a body must arrive.
        idle_seconds: seconds between two parts of a body, or of the header of a request.
        vanish_seconds: seconds after which a job is cancelled whose last watcher has gone.
        requests: requests that are answered at one time, those that wait for their pictures too.
    """

    queue: int = 16
    keep: float = 600.0
    keep_bytes: int = 512_000_000
    bytes: int = 100_000_000
    pixels: int = 40_000_000
    result_pixels: int = 100_000_000
    seconds: float = 3600.0
    body_seconds: float = 300.0
    idle_seconds: float = 20.0
    vanish_seconds: float = 15.0
    requests: int = 256


@dataclass(frozen=True)
class Address:
    """Where a server listens, and whom it answers.

    Attributes:
        host: name or number of the address that it listens on.
        port: port; 0 takes a free one.
        token: secret that every request must bring; None for an address of this machine alone.
        names: host names besides those of this machine by which it may be called.

    Raises:
        BadArgument: an address that others reach without a token, a token that is too short, or a
            port out of range.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise BadArgument(f"`port`={self.port}: must be between 0 and {2**16 - 1}")
        if self.token is None and not self.is_local:
            raise BadArgument(
                f"`host`={self.host}: other machines can reach this address, so it needs a "
                f"`token`, a secret of at least {LEAST_TOKEN} characters; or leave `host` out"
            )
        if self.token is not None and not _is_secret(self.token):
            raise BadArgument(
                f"`token`: must have at least {LEAST_TOKEN} characters, all of them letters, "
                "digits or ASCII signs"
            )

    @property
    def is_local(self) -> bool:
        """True if no other machine can reach the address."""
        number = _number(self.host)
        return self.host.lower() == "localhost" if number is None else number.is_loopback

    def allows(self, name: str) -> bool:
        """Return True if a request may call the server by a host name, without its port.

        A page of another site can have its own name point to this machine (DNS rebinding), but it
        cannot have it look like a number.
        """
        name = name.lower()
        if name == "localhost" or name in {known.lower() for known in (self.host, *self.names)}:
            return True

        number = _number(name)
        return number is not None and (number.is_loopback or not self.is_local)


def _number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_secret(token: str) -> bool:
    return len(token) >= LEAST_TOKEN and all("!" <= letter <= "~" for letter in token)
