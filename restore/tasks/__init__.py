"""What people want done, as inverse problems: one file a task.

Shells complete words from these modules, so they import PyTorch in functions alone.
"""

from restore.tasks.colorize import Colorization
from restore.tasks.deblur import Deblurring
from restore.tasks.denoise import Denoising
from restore.tasks.inpaint import Inpainting
from restore.tasks.solve import RESEMBLED, Solving
from restore.tasks.sr import SuperResolution
from restore.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (SuperResolution, Inpainting, Deblurring, Denoising, Colorization, Solving)
}
# Every kind of problem by name.
KINDS = {kind.name: kind for kind in RESEMBLED}

__all__ = [
    "KINDS",
    "TASKS",
    "Colorization",
    "Deblurring",
    "Denoising",
    "Inpainting",
    "Solving",
    "SuperResolution",
    "Task",
]
