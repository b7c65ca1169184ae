"""Where the toolkit keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

VARIABLE = "RESTORE_CACHE"


def cache_folder() -> Path:
    """What the environment variable RESTORE_CACHE names, or the system's folder for caches; it may not exist yet."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else user_cache_path("restore-diffusion", appauthor=False)
