"""Settings by kind of problem that methods share: at what noise they begin, and from what."""

from __future__ import annotations

from restore.methods.defaults import Defaults


def by_holes(base: Defaults) -> dict[str, Defaults]:
    """Return settings for kinds with holes: from a classical fill, or from grey for ``solve``."""
    return {
        "inpaint": base._replace(highest="filled holes", classical_start=True),
        "solve": base._replace(highest="holes"),
    }


def by_kind(base: Defaults, compressed_steps: int) -> dict[str, Defaults]:
    """Return settings for methods that take any operator; compression leaves little to renew."""
    compressed = base._replace(steps=compressed_steps, highest=0.2)
    return {"compressed": compressed, **by_holes(base)}


def of_samples(base: Defaults) -> dict[str, Defaults]:
    """Return settings for several samples, which a fill would make more alike than they are."""
    return {"inpaint": base._replace(highest="holes")}
