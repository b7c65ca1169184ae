"""Restoration tasks as inverse problems, one file each.

Shell completion reads these modules, so they import PyTorch inside functions only.
"""

from restore.tasks.auto import Automatic
from restore.tasks.colorize import Colorization
from restore.tasks.deblur import Deblurring
from restore.tasks.dejpeg import Dejpeg
from restore.tasks.denoise import Denoising
from restore.tasks.develop import Developing
from restore.tasks.inpaint import Inpainting
from restore.tasks.kind import behind_jpeg
from restore.tasks.solve import RESEMBLED, Solving
from restore.tasks.sr import ENLARGING, SuperResolution
from restore.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (
        *(SuperResolution, Inpainting, Deblurring, Denoising, Dejpeg, Colorization),
        *(Developing, Solving, Automatic),
    )
}
# All kinds of problems by name.
KINDS = {kind.name: kind for kind in (*RESEMBLED, behind_jpeg(ENLARGING))}

__all__ = [
    "KINDS",
    "TASKS",
    "Automatic",
    "Colorization",
    "Deblurring",
    "Dejpeg",
    "Denoising",
    "Developing",
    "Inpainting",
    "Solving",
    "SuperResolution",
    "Task",
]
