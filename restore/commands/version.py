"""`restore --version`."""

from __future__ import annotations

from collections.abc import Iterator

import pretrained
from pretrained.tables import read_json
from restore import __version__
from restore.commit import commit


def lines() -> Iterator[str]:
    """Yield the version, the default model and, where it is known, the commit."""
    yield f"restore {__version__}"
    for name in pretrained.SHIPPED:
        described = read_json(pretrained.checkpoint_path(name).with_suffix(".json"))
        yield f"model {name} (sha256 {described['sha256'][:12]})"
    if found := commit():
        yield f"commit {found}"
