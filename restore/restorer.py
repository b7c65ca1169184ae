"""The toolkit from Python: a loaded model with one method for each task."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import pretrained
from restore import tasks
from restore.denoiser import Denoiser, ModelConfig, build_denoiser
from restore.devices import choose_device, network_dtype, synchronize
from restore.errors import BadArgument, Unavailable
from restore.evaluation import consistency
from restore.images import open_measurement, open_picture
from restore.methods import METHODS, Run, settings_for
from restore.solvers.common import Callback
from restore.tasks import Kernel, Noise, Operator, Problem
from restore.tiles import TiledDenoiser

if TYPE_CHECKING:
    from operators import Degradation
    from restore.images import Picture


class Samples(NamedTuple):
    """Several samples of the posterior; pictures of the kind that came in."""

    mean: Any
    std: Any
    """Standard deviation over the samples, in the same units (255 of a uint8 picture is 1)."""
    samples: list[Any]


@dataclass(frozen=True)
class Options:
    """How to restore, whatever the task.

    Attributes:
        method: ``auto`` (the task's best), ``ddrm``, ``diffpir``, ``sr3`` or ``one-step``.
        steps: calls of the network; None is the method's default.
        eta: share of fresh noise in each step, in [0, 1]; None is the method's default.
        seed: of all random numbers.
        samples: how many samples of the posterior to draw.
    """

    method: str = "auto"
    steps: int | None = None
    eta: float | None = None
    seed: int = 0
    samples: int = 1


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        operator: as text, see `operators.text`, or the name of its class where it has none.
        noise: standard deviation of the measurement's noise that was assumed, in [0, 1] units; mean over a batch.
        consistency: RMS of A x − y of the result (of the mean, for samples), in [0, 1] units.
        seconds: time in the solver.
    """

    task: str
    operator: str
    method: str
    steps: int
    samples: int
    seed: int
    noise: float
    consistency: float
    seconds: float
    model: str
    device: str
    dtype: str


class Result(NamedTuple):
    """``mean`` is the picture itself where one sample was drawn; then there is no ``std``."""

    mean: Any
    std: Any | None
    samples: list[Any]
    report: Report


class Restorer:
    """A model on a device, ready to restore pictures.

    Args:
        model: ``default``, or the path of a .safetensors file with its description beside it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        BadArgument, Unavailable: no such model or device.

    The methods take a PIL image, a numpy array (uint8, uint16 or float in [0, 1]) or a tensor (see
    `restore.images.open_picture`) and return the same kind, size and depth; alpha comes along. They accept the
    fields of `Options` as keywords, and ``callback``, called with a `restore.solvers.Step` after each call of the
    network. With ``samples`` above 1 they return `Samples`.
    """

    def __init__(self, model: str = "default", device: str = "auto") -> None:
        self.device = choose_device(device)
        self.dtype = network_dtype(self.device)
        self.model = model
        self.denoiser = TiledDenoiser(load_denoiser(model, self.device, self.dtype))

    def sr(self, image: Picture, scale: float = 4, *, noise: Noise = 0.0, kernel: str = "bicubic", **options) -> Any:
        """Super-resolution by a factor in (1, 16] of a picture that was down-sampled by ``kernel``.

        Args:
            kernel: ``bicubic``, ``area`` or ``lanczos``, antialiased.
            noise: standard deviation in the picture, in [0, 1] units, or ``auto``.
        """
        return _short(self.run("sr", image, {"scale": scale, "noise": noise, "kernel": kernel}, **options))

    def inpaint(
        self,
        image: Picture,
        mask: Picture,
        *,
        noise: Noise = 0.0,
        threshold: float = 0.5,
        dilate: int = 0,
        feather: float = 0.0,
        **options,
    ) -> Any:
        """Fill the pixels where ``mask`` is True, or brighter than ``threshold``; the others stay as they are.

        Args:
            dilate: grow the mask by this many whole pixels.
            feather: blend the fill with what ``image`` shows inside the mask, over so many pixels from its rim.
        """
        arguments = {"mask": mask, "noise": noise, "threshold": threshold, "dilate": dilate, "feather": feather}
        return _short(self.run("inpaint", image, arguments, **options))

    def deblur(
        self,
        image: Picture,
        kernel: Kernel = "gaussian:2",
        *,
        noise: Noise = "auto",
        boundary: str = "unknown",
        **options,
    ) -> Any:
        """Undo a blur with that noise after it.

        Args:
            kernel: as text, ``gaussian:2``, ``motion:15:30``, ``disk:3``, ``box:5``, ``file:k.png`` (lengths in pixels;
                see `operators.vocabulary`), or as an array [h, w].
            boundary: what lay beyond the border: ``unknown``, as of every photograph, or ``symmetric``, ``mirror``,
                ``replicate``, ``circular``, ``zero``.
        """
        arguments = {"kernel": kernel, "noise": noise, "boundary": boundary}
        return _short(self.run("deblur", image, arguments, **options))

    def denoise(self, image: Picture, noise: Noise = "auto", **options) -> Any:
        """Remove white Gaussian noise of that standard deviation in [0, 1] units."""
        return _short(self.run("denoise", image, {"noise": noise}, **options))

    def colorize(self, image: Picture, *, noise: Noise = 0.0, **options) -> Any:
        """Colour a grey picture. Grey in, colour out: the result has three channels."""
        return _short(self.run("colorize", image, {"noise": noise}, **options))

    def solve(
        self,
        measurement: Picture,
        operator: str | Degradation | Operator,
        *,
        noise: Noise | None = None,
        size: tuple[int, int] | None = None,
        **options,
    ) -> Any:
        """Restore what any operator measured.

        Args:
            measurement: a picture; or a tensor of floating-point numbers [B, *operator.output_shape] or without B,
                which is taken as it is: ``A x + noise`` for pictures x in [0, 1].
            operator: as text, ``blur:gaussian:2+down:bicubic:4`` (see `operators.text`), or an operator of your own.
            noise: its standard deviation in the measurement, one or one of each, or ``auto``; None is explained at
                `restore.tasks.solving`.
            size: (width, height) of the picture, where the measurement does not tell.
        """
        arguments = {"operator": operator, "noise": noise, "size": size}
        return _short(self.run("solve", measurement, arguments, **options))

    def run(
        self,
        task: str,
        image: Picture,
        arguments: dict[str, Any],
        *,
        callback: Callback | None = None,
        **options: Any,
    ) -> Result:
        """Restore and say how it went: what the methods above call.

        Raises:
            BadArgument: an argument that cannot be used; the text says which and what would be right.
        """
        opened = open_measurement(image) if task == "solve" else open_picture(image)
        checked = check(task, arguments, Options(**options))
        problem = self.problem(task, opened.color, arguments)
        solutions, report = self.solve_problem(problem, checked, callback)
        size = solutions.shape[-2:]
        alpha = None if opened.alpha is None else _resized(opened.alpha, size)
        gray = opened.gray and problem.operator.output_shape[0] == problem.operator.input_shape[0]
        samples = [opened.pack(solution, alpha, gray) for solution in solutions]
        if len(samples) == 1:
            return Result(samples[0], None, samples, report)
        opaque = None if alpha is None else torch.ones_like(alpha)
        mean = opened.pack(solutions.mean(dim=0), alpha, gray)
        return Result(mean, opened.pack(solutions.std(dim=0), opaque, gray), samples, report)

    def problem(self, task: str, color: Tensor, arguments: dict[str, Any]) -> Problem:
        """The inverse problem of a task on pictures [B, 3, H, W] in [0, 1]."""
        if task == "inpaint":
            threshold, rest = arguments.get("threshold", 0.5), {k: v for k, v in arguments.items() if k != "threshold"}
            arguments = {**rest, "mask": _mask(arguments["mask"], threshold)}
        builders = {
            "sr": tasks.super_resolution,
            "inpaint": tasks.inpainting,
            "deblur": tasks.deblurring,
            "denoise": tasks.denoising,
            "colorize": tasks.colorization,
            "solve": tasks.solving,
        }
        return builders[task](color, **arguments, device=self.device)

    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Samples [K, B, 3, H, W] in [0, 1] on the CPU."""
        method, settings = settings_for(
            problem.kind, options.method, steps=options.steps, eta=options.eta, samples=options.samples
        )
        generator = torch.Generator().manual_seed(options.seed)
        run = Run(self.denoiser, problem, settings, generator, callback)
        started = time.perf_counter()
        with torch.inference_mode():
            solutions = torch.stack([_finished(METHODS[method](run), problem) for _ in range(options.samples)])
            explained = consistency(problem.operator, solutions.mean(dim=0), problem.measurement)
            solutions = problem.operator.visible(solutions)
            synchronize(self.device)
        report = Report(
            task=problem.task,
            operator=problem.written,
            method=method,
            steps=settings.steps,
            samples=options.samples,
            seed=options.seed,
            noise=float(problem.noise.mean()),
            consistency=float(explained.square().mean().sqrt()),
            seconds=time.perf_counter() - started,
            model=self.model,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
        )
        return solutions.cpu().clone(), report  # no longer tied to the inference mode


def check(task: str, arguments: dict[str, Any], options: Options) -> Options:
    """Look at everything that can be judged without a picture; returns the options.

    Raises:
        BadArgument: what cannot be used, and what would be right.
    """
    if options.samples < 1:
        raise BadArgument(f"--samples {options.samples}: must be at least 1")
    if not 0 <= options.seed < 2**63:
        raise BadArgument(f"--seed {options.seed}: must be between 0 and 2^63 - 1")
    settings_for(task, options.method, steps=options.steps, eta=options.eta, samples=options.samples)
    tasks.check_arguments(arguments)
    return options


@cache
def restorer(model: str = "default", device: str = "auto") -> Restorer:
    """A `Restorer`, loaded once for each model and device."""
    return Restorer(model, device)


def load_denoiser(model: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """The denoiser of a checkpoint.

    Raises:
        Unavailable: the checkpoint is missing, damaged or does not fit its description.
    """
    try:
        checkpoint = pretrained.load(model)
        return build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state, device, dtype)
    except (pretrained.CheckpointError, ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"--model {model}: {error}") from None


def sr(image: Picture, scale: float = 4, *, model: str = "default", device: str = "auto", **options) -> Any:
    """See `Restorer.sr`."""
    return restorer(model, device).sr(image, scale, **options)


def inpaint(image: Picture, mask: Picture, *, model: str = "default", device: str = "auto", **options) -> Any:
    """See `Restorer.inpaint`."""
    return restorer(model, device).inpaint(image, mask, **options)


def deblur(
    image: Picture, kernel: Kernel = "gaussian:2", *, model: str = "default", device: str = "auto", **options
) -> Any:
    """See `Restorer.deblur`."""
    return restorer(model, device).deblur(image, kernel, **options)


def denoise(image: Picture, noise: Noise = "auto", *, model: str = "default", device: str = "auto", **options) -> Any:
    """See `Restorer.denoise`."""
    return restorer(model, device).denoise(image, noise, **options)


def colorize(image: Picture, *, model: str = "default", device: str = "auto", **options) -> Any:
    """See `Restorer.colorize`."""
    return restorer(model, device).colorize(image, **options)


def solve(
    measurement: Picture,
    operator: str | Degradation | Operator,
    *,
    model: str = "default",
    device: str = "auto",
    **options,
) -> Any:
    """See `Restorer.solve`."""
    return restorer(model, device).solve(measurement, operator, **options)


def _short(result: Result) -> Any:
    return result.mean if result.std is None else Samples(result.mean, result.std, result.samples)


def _finished(solution: Tensor, problem: Problem) -> Tensor:
    """From the model's [-1, 1] to [0, 1], with what must come through untouched put back.

    Raises:
        RuntimeError: the result is not finite.
    """
    if not bool(torch.isfinite(solution).all()):
        raise RuntimeError(f"the {problem.task} result is not finite (NaN or infinity)")
    result = ((solution + 1) / 2).clamp(0, 1)
    if problem.keep is None:
        return result
    return torch.where(problem.keep == 1, problem.original, torch.lerp(result, problem.original, problem.keep))


def _mask(mask: Picture | Tensor, threshold: float) -> Tensor:
    """True where the mask is brighter than the threshold: bool [H, W], or [B, 1, H, W] of a batch of masks."""
    if hasattr(mask, "dtype") and str(mask.dtype).endswith("bool"):
        values = torch.as_tensor(mask)
        return values if values.ndim != 3 else values[:, None]
    white = open_picture(mask).color.mean(dim=1, keepdim=True) > threshold
    return white[0, 0] if len(white) == 1 else white


def _resized(alpha: Tensor, size: torch.Size) -> Tensor:
    if alpha.shape[-2:] == size:
        return alpha
    return F.interpolate(alpha, size=tuple(size), mode="bicubic", align_corners=False).clamp(0, 1)
