"""What a picture shows, without a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from restore.tasks import Automatic

if TYPE_CHECKING:
    from restore.findings.finding import Finding
    from restore.photo.pictures import Picture


def examine(image: Picture) -> tuple[Finding, ...]:
    """Return what a picture shows of noise, blur and JPEG compression, without restoring it.

    Args:
        image: a picture, see `Restorer`; what a batch shows comes picture by picture.
    """
    task = Automatic()
    opened = task.opened(image)
    task = replace(task, rounding=(opened.rounding,), stored=(opened.stored,))
    color, task = task.of_visible(opened)
    each = (one.examined(picture)[0] for one, picture in task.apart(color))
    return tuple(finding for findings in each for finding in findings)
