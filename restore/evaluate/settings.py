"""The settings of an evaluation: those of every task, and the options that tasks give to it."""

from __future__ import annotations

import math
import os
from dataclasses import MISSING, dataclass, field, make_dataclass, replace
from typing import Any

import operators
from operators.grammar import Degradation, brief
from restore.errors import BadArgument, FileAccess
from restore.methods.options import Options
from restore.methods.settings import settings_for
from restore.metrics.signal_noise import SignalNoise
from restore.tasks import TASKS, Task
from restore.tasks.inpaint import AUTO_SCRATCHES
from restore.tasks.option import Noise, evaluated_options_of, options_of

# Options of single tasks.
_TASK_OPTIONS = tuple(
    dict.fromkeys(name for task in TASKS.values() for name in evaluated_options_of(task))
)
_OfTasks: Any = make_dataclass(
    "_OfTasks",
    [(name, Any, field(default=None, kw_only=True)) for name in _TASK_OPTIONS],
    frozen=True,
)


@dataclass(frozen=True)
class Settings(_OfTasks):
    """Settings of an evaluation. None is the default of the task.

    It has the options that the records of tasks give to evaluations, as keywords; they are those
    from ``scale`` to ``operator``.

    Attributes:
        task: one of `restore.tasks.TASKS`.
        scale: scale factor for ``sr``.
        kernel: kernel for ``sr`` (bicubic, area or lanczos) or ``deblur`` (text, ``gaussian:2``).
        boundary: boundary for ``deblur``.
        mask: mask for ``inpaint``: a picture, white = fill, or a folder of them; or a random mask
            of `operators.vocabulary` such as ``random:0.5``, ``strokes`` or ``box:64``, whose seed
            differs between pictures.
        invert_mask: True if what is black in a mask file is missing.
        fit_mask: True to resize mask files of another size.
        operator: operator for ``solve`` as text.
        noise: standard deviation of added noise, for pixels in [0, 1], or Poisson-Gaussian noise.
        size: side of the centre crop of every picture; 0 is the whole picture.
        count: number of pictures, the first by name; None is all.
        methods: names of methods, or ``all``; empty for the classical ones and those that are
            usually compared (`restore.methods.method.Method.compared`), as far as they apply.
        steps: number of network calls for methods of several steps.
        seed: random seed for noise, masks and samplers.
        model: as for `restore.Restorer`.
        device: as for `restore.Restorer`.
        label: class label for a class-conditional model.
    """

    task: str
    noise: float | SignalNoise | None = None
    size: int = 0
    count: int | None = None
    methods: tuple[str, ...] = ()
    steps: int | None = None
    seed: int = 0
    model: str = "default"
    device: str = "auto"
    label: int | None = None

    def completed(self) -> Settings:
        """Return the settings with the defaults of the task, after checking them.

        Raises:
            BadArgument: an invalid setting.
        """
        if self.task not in TASKS:
            raise BadArgument(f"`task`={self.task}: unknown; use {', '.join(TASKS)}")
        if TASKS[self.task].takes_raws:
            raise BadArgument(
                f"`task`={self.task}: pictures are no camera raws; evaluate solve with the "
                "operator bayer or xtrans"
            )

        own = evaluated_options_of(TASKS[self.task])
        for name in _TASK_OPTIONS:
            if getattr(self, name) is not None and name not in own:
                users = [
                    name_of for name_of, task in TASKS.items() if name in evaluated_options_of(task)
                ]
                raise BadArgument(
                    f"`{name}`: the task {self.task} has no such option; it is for "
                    f"{', '.join(users)}"
                )

        missing = {
            name: option.option.implied if option.default is None else option.default
            for name, option in own.items()
            if not getattr(self, name) and option.default is not MISSING
        }
        noise = TASKS[self.task].added_noise if self.noise is None else self.noise
        full = replace(self, noise=noise, **missing)
        full._check()

        return full

    def stated(self, noise: Noise | None, **of_picture: Any) -> Task:
        """Return the task for `restore.restorer.Restorer.run`.

        Args:
            noise: noise level that the methods know.
            of_picture: options of a picture, such as its mask.
        """
        task = TASKS[self.task]
        given = {name: getattr(self, name) for name in evaluated_options_of(task)}
        told = {"noise": noise} if "noise" in options_of(task) else {}
        return task(**{**given, **told, **of_picture}).of_test_images()

    def _check(self) -> None:
        own = options_of(TASKS[self.task])
        if "operator" in own and not self.operator:
            raise BadArgument(
                "`operator` is missing: what is to be undone? (restore operators lists what can be "
                "written)"
            )
        if "mask" in own and not self.mask:
            raise BadArgument(
                "`mask` is missing: a picture, white = fill, or a folder of them; or random:0.5, "
                "strokes, box:64"
            )

        if self.noise and "noise" not in options_of(TASKS[self.task]):
            raise BadArgument(f"`noise`={self.noise}: {self.task} has no noise")

        masked = {"mask": None} if "mask" in own else {}  # it need not be a picture here
        self.stated(self.noise, **masked).check()
        if TASKS[self.task].kind.is_noisy_picture and not self.noise:
            raise BadArgument(
                "`noise`=0: denoising needs noise, above 0, as in 0.1 (25 of 255 is 0.098)"
            )
        if self.size < 0:
            raise BadArgument(
                f"`size`={self.size}: must be a number of pixels, or 0 for whole pictures"
            )
        if self.count is not None and self.count < 1:
            raise BadArgument(f"`count`={self.count}: must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise BadArgument(f"`seed`={self.seed}: must be between 0 and 2^63 - 1")

        kind = TASKS[self.task].kind
        settings_for(kind, Options(kind.sampler, self.steps))
        if self.mask and mask_words(self) is not None:
            for name in ("invert_mask", "fit_mask"):
                if getattr(self, name):
                    raise BadArgument(
                        f"`{name}`: is for masks in files, not for `mask`={self.mask}"
                    )

    @property
    def cropped_border(self) -> int:
        """Pixels on every side that scores of the luma leave out: the scale factor, for sr."""
        return math.ceil(self.scale) if self.scale else 0


def mask_words(settings: Settings) -> Degradation | None:
    """Parse the mask of the settings; None for a file or folder.

    Raises:
        BadArgument: invalid text.
        FileAccess: the file does not exist.
    """
    text = settings.mask or ""
    if os.path.exists(text):
        return None

    if text == AUTO_SCRATCHES:
        raise BadArgument(f"`mask`={text}: does not say how test images are damaged; give a mask")
    try:
        read = operators.parse(f"mask:{text}")
    except ValueError as error:
        raise BadArgument(
            f"`mask`={brief(text)}: no such file or folder, and as a description: {error}"
        ) from None

    if read.parts[0].word.name == "mask:file":
        raise FileAccess(f"`mask`={brief(text)}: no such file or folder")
    if len(read.parts) > 1:
        raise BadArgument(
            f"`mask`={brief(text)}: it is more than a mask; `task`=solve `operator` takes several "
            "parts"
        )

    return read
