"""The toolkit from Python: a loaded model with one method for each task."""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

import operators
import pretrained
from restore.cascade import Cascade, Factors, solve_in_stages, take_cascade
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser
from restore.diffusion.stepping import Callback, Generator, Step
from restore.errors import BadArgument, RestoreError, Unavailable, of_option
from restore.methods.feed_forward import (
    FeedForward,
    check_file,
    is_feed_forward,
    on_canvas,
    seen_size,
)
from restore.methods.registry import METHODS, Run, suits_ddrm
from restore.methods.settings import PREDICTED_NOISE, Options, settings_for
from restore.metrics.quality import consistency
from restore.photo.alpha import continue_colour, hidden, put_back, visible_noise
from restore.photo.pictures import open_measurement, open_picture
from restore.runtime.budget import Budget, check_sizes
from restore.runtime.devices import (
    HOST,
    choose_device,
    hand_back_freed_memory,
    is_out_of_memory,
    network_dtype,
    synchronize,
)
from restore.runtime.tiles import Notice, TiledDenoiser
from restore.samplers.catalogue import check_variance
from restore.tasks import problem as tasks
from restore.tasks.inverse import has_evidence
from restore.tasks.problem import Kernel, Noise, Operator, Problem

if TYPE_CHECKING:
    from operators import Degradation
    from restore.photo.pictures import Opened, Picture


class Samples(NamedTuple):
    """Several samples of the posterior; pictures of the kind that came in."""

    mean: Any
    std: Any
    """Standard deviation over the samples, in the same units (255 of a uint8 picture is 1)."""
    samples: list[Any]


@dataclass(frozen=True)
class Report:
    """What was done.

    Attributes:
        operator: as text, see `operators.text`, or the name of its class where it has none.
        noise: standard deviation of the measurement's noise that was assumed, in [0, 1] units; mean
            over a batch.
        consistency: RMS of A x − y of the result (of the mean, for samples), in [0, 1] units.
        seconds: time in the solver.
        cascade: the stages, if there were any; ``steps`` are those of all of them.
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
    cascade: Cascade | None = None


class Result(NamedTuple):
    """``mean`` is the picture itself where one sample was drawn; then there is no ``std``."""

    mean: Any
    std: Any | None
    samples: list[Any]
    report: Report


class Restorer:
    """A model on a device, ready to restore pictures.

    Args:
        model: ``default``, another name or the path of weights, see `pretrained.checkpoint_path`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        tile: side in pixels of the pieces in which the network sees large pictures; None is what
            the memory allows.
        memory: that may be used on the device in all, as in ``4GB``; None is most of what is free.
        notice: told in a sentence what is done differently than expected, as smaller tiles where
            memory ran out.

    Raises:
        BadArgument, Unavailable: no such model or device, or a tile or memory that is too small.

    The methods take a PIL image, a numpy array (uint8, uint16 or float in [0, 1]) or a tensor (see
    `restore.photo.pictures.open_picture`) and return the same kind, size and depth; alpha comes
    along. They accept the fields of `Options` as keywords, and ``callback``, called with a
    `restore.solvers.Step` after each call of the network. With ``samples`` above 1 they return
    `Samples`.
    """

    def __init__(
        self,
        model: str = "default",
        device: str = "auto",
        *,
        tile: int | None = None,
        memory: str | None = None,
        notice: Notice = warnings.warn,
    ) -> None:
        check_sizes(tile, memory)
        self.device = choose_device(device)
        self.dtype = network_dtype(self.device)
        self.model = model
        denoise = load_denoiser(model, self.device, self.dtype)
        self.budget = Budget.of(denoise, memory)
        self.denoiser = TiledDenoiser(denoise, tile, budget=self.budget, notice=notice)
        self._tile = tile
        self._notice = notice
        self._networks: dict[str, FeedForward] = {}
        self._of_class: dict[int, TiledDenoiser] = {}

    def of_class(self, label: int | None) -> TiledDenoiser:
        """The denoiser of a class, kept for later pictures; None is for models without classes.

        Raises:
            BadArgument: there is no such class, or the model has classes and none is given.
        """
        if label is None:
            return self.denoiser.of_class(None)
        if label not in self._of_class:
            self._of_class[label] = self.denoiser.of_class(label)
        return self._of_class[label]

    def sr(
        self,
        image: Picture,
        scale: float = 4,
        *,
        noise: Noise = 0.0,
        kernel: str = "bicubic",
        cascade: Factors | None = None,
        cascade_noise: float | None = None,
        **options,
    ) -> Any:
        """Super-resolution by a factor in (1, 16] of a picture that was down-sampled by ``kernel``.

        Args:
            kernel: ``bicubic``, ``area`` or ``lanczos``, antialiased.
            noise: standard deviation in the picture, in [0, 1] units, or ``auto``.
            cascade: factors of stages that make the scale together, ``(4, 4)`` or ``"4x4"``;
                ``auto`` for factors of at most 4; see `restore.cascade`.
            cascade_noise: standard deviation between two stages, in [0, 1] units; None is what
                measured best.
        """
        arguments = {"scale": scale, "noise": noise, "kernel": kernel}
        arguments |= {"cascade": cascade, "cascade_noise": cascade_noise}
        return _short(self.run("sr", image, arguments, **options))

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
        """Fill the pixels where ``mask`` is True, or brighter than ``threshold``; the others stay
        as they are.

        Args:
            dilate: grow the mask by this many whole pixels.
            feather: blend the fill with what ``image`` shows inside the mask, over so many pixels
                from its rim.
        """
        arguments = {
            "mask": mask,
            "noise": noise,
            "threshold": threshold,
            "dilate": dilate,
            "feather": feather,
        }
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
            kernel: as text, ``gaussian:2``, ``motion:15:30``, ``disk:3``, ``box:5``, ``file:k.png``
                (lengths in pixels; see `operators.vocabulary`), or as an array [h, w].
            boundary: what lay beyond the border: ``unknown``, as of every photograph, or
                ``symmetric``, ``mirror``, ``replicate``, ``circular``, ``zero``.
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
            measurement: a picture; or a tensor of floating-point numbers [B,
                *operator.output_shape] or without B, which is taken as it is: ``A x + noise`` for
                pictures x in [0, 1].
            operator: as text, ``blur:gaussian:2+down:bicubic:4`` (see `operators.text`), or an
                operator of your own.
            noise: its standard deviation in the measurement, one or one of each, or ``auto``; None
                is explained at `restore.tasks.problem.solving`.
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
            BadArgument: an argument that cannot be used; the text says which and what would be
                right.
        """
        opened = _opened(task, image)
        checked = check(task, arguments, Options(**options))
        with _enough_memory(opened.color):
            color, arguments = _seen(task, opened, arguments)
            cascade, arguments = take_cascade(arguments)
            if cascade is not None:
                problem, solutions, report = solve_in_stages(
                    self, color, arguments, cascade, checked, callback
                )
            else:
                problem = self.problem(task, color, arguments)
                solutions, report = self.solve_problem(problem, checked, callback)

        return _packed(opened, problem, solutions, report)

    def run_together(
        self,
        task: str,
        images: Sequence[Picture],
        arguments: dict[str, Any],
        *,
        callback: Callback | None = None,
        **options: Any,
    ) -> list[Result]:
        """Restore pictures of equal size in one batch, each as `run` restores it alone.

        Each has its own random numbers of the same seed, its own noise and its own report, whose
        seconds are its share. The results are those of `run` but for the rounding of convolutions
        and matrix products, which may depend on how many pictures there are. Pictures that alone
        would go by other noise levels go in batches of their own.

        Args:
            images: of one kind and size, without alpha.
            arguments: of the task, the same for all, without a cascade.

        Raises:
            BadArgument: as `run`, for whichever picture.
            ValueError: a picture with alpha, pictures that differ in size, or a cascade.

        Where memory runs out the error is that of PyTorch, so that fewer can be tried.
        """
        opened = [_opened(task, image) for image in images]
        one_size = (1, *opened[0].color.shape[1:])
        if any(one.alpha is not None or one.color.shape != one_size for one in opened):
            raise ValueError("pictures that are restored together have one size and no alpha")

        checked = check(task, arguments, Options(**options))
        cascade, arguments = take_cascade(arguments)
        if cascade is not None:
            raise ValueError("pictures go through a cascade one by one")

        problem = self.problem(task, torch.cat([one.color for one in opened]), arguments)
        method, run = self._run(problem, checked, [_generator(checked) for _ in opened], callback)
        if len(parts := _equal(run.walks)) > 1:
            del problem, run
            found: dict[int, Result] = {}
            for part in parts:
                mine = [images[index] for index in part]
                found.update(
                    zip(
                        part,
                        self.run_together(task, mine, arguments, callback=callback, **options),
                        strict=True,
                    )
                )
            return [found[index] for index in range(len(images))]

        solutions, explained, report = self._solved(method, run, checked)

        return [
            _packed(
                one,
                problem,
                solutions[:, [index]],
                _of_one(report, problem.noise, explained, index),
            )
            for index, one in enumerate(opened)
        ]

    def pictures_at_once(
        self, task: str, size: tuple[int, int], arguments: dict[str, Any], wanted: int | None = None
    ) -> int:
        """How many pictures of a size (height, width) are best restored together, see
        `restore.runtime.budget.Budget.pictures`.

        Raises:
            BadArgument: an operator that cannot be read, or does not fit what it measured.
        """
        height, width = _result_size(task, size, arguments)
        return self.budget.pictures(height * width, wanted)

    def network(self, method: str) -> FeedForward:
        """The network that ``spandrel:FILE`` names, loaded once.

        Raises:
            Unavailable: see `FeedForward`.
        """
        if method not in self._networks:
            self._networks[method] = FeedForward(
                method, self.device, tile=self._tile, memory=self.budget.memory, notice=self._notice
            )
        return self._networks[method]

    def prepare(self, task: str, options: Options) -> None:
        """Load what the options name, and see whether the model suits them: what suits no picture
        ends a run at once.

        Raises:
            BadArgument: a class, sampler, noise level, method or task that is not for this model.
            Unavailable: a network that cannot be loaded.
        """
        for network in options.networks:
            self.network(network)

        denoiser = self.of_class(options.label)
        check_model(denoiser, options)
        if task != "solve":  # which task that is, each picture's operator tells
            known = {"conditional": denoiser.conditional, "prior": denoiser.prior}
            settings_for(task, options, **known, predictor=denoiser.predictor is not None)

    def problem(self, task: str, color: Tensor, arguments: dict[str, Any]) -> Problem:
        """The inverse problem of a task on pictures [B, 3, H, W] in [0, 1].

        It lies on the device, or on the host if it is too large for the device, see
        `restore.runtime.budget`.
        """
        if task == "inpaint":
            threshold, rest = (
                arguments.get("threshold", 0.5),
                {k: v for k, v in arguments.items() if k != "threshold"},
            )
            arguments = {**rest, "mask": _mask(arguments["mask"], threshold)}

        builders = {
            "sr": tasks.super_resolution,
            "inpaint": tasks.inpainting,
            "deblur": tasks.deblurring,
            "denoise": tasks.denoising,
            "colorize": tasks.colorization,
            "solve": tasks.solving,
        }
        height, width = _result_size(task, color.shape[-2:], arguments)
        pixels = len(color) * height * width
        place = self.budget.place(pixels, self.device)
        if place == HOST == self.device and self.budget.is_filled(pixels):
            hand_back_freed_memory()

        return builders[task](color, **arguments, device=place)

    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Samples [K, B, 3, H, W] in [0, 1] on the CPU."""
        method, run = self._run(problem, options, _generator(options), callback)
        solutions, _explained, report = self._solved(method, run, options)
        return solutions, report

    def _run(
        self, problem: Problem, options: Options, generator: Generator, callback: Callback | None
    ) -> tuple[str, Run]:
        """The method's name, and what it needs but for a start."""
        denoiser = self.of_class(options.label)
        check_model(denoiser, options)
        method, settings = settings_for(
            problem.kind,
            options,
            conditional=denoiser.conditional,
            prior=denoiser.prior,
            svd=suits_ddrm(problem.operator),
            predictor=_is_predicted(denoiser, problem),
        )

        return method, Run(denoiser, problem, settings, generator, callback)

    def _solved(self, method: str, run: Run, options: Options) -> tuple[Tensor, Tensor, Report]:
        """Samples as of `solve_problem`; how far each picture's result is from explaining its
        measurement, [B].
        """
        problem = run.problem
        started = time.perf_counter()
        with torch.inference_mode():
            run = replace(run, start=self._start(problem, options.start))
            solve = (
                partial(_answer, self.network(method))
                if is_feed_forward(method)
                else METHODS[method]
            )
            solutions = torch.stack(
                [_finished(solve(run), problem) for _ in range(options.samples)]
            )
            explained = consistency(problem.operator, solutions.mean(dim=0), problem.measurement)
            solutions = problem.operator.visible(solutions)
            synchronize(self.device)

        foreign = self._networks.get(method)
        report = Report(
            task=problem.task,
            operator=problem.written,
            method=method if foreign is None else foreign.name,
            steps=run.settings.steps,
            samples=options.samples,
            seed=options.seed,
            noise=float(problem.noise.mean()),
            consistency=_root_mean_square(explained),
            seconds=time.perf_counter() - started,
            model=self.model if foreign is None else foreign.architecture,
            device=str(self.device),
            dtype=str(self.dtype if foreign is None else torch.float32).removeprefix("torch."),
        )

        return solutions.cpu().clone(), explained, report  # no longer tied to the inference mode

    def _start(self, problem: Problem, start: Picture | str | None) -> Tensor | None:
        """What `Run.start` is of `Options.start`.

        Raises:
            BadArgument: a start that is no picture, not of the result's size, or not one for each
                picture.
        """
        if start is None:
            return None
        if isinstance(start, str):
            if not is_feed_forward(start):
                raise BadArgument(f"start={start!r}: must be a picture, or spandrel:FILE")
            return 2 * on_canvas(problem.operator, self.network(start)(problem)) - 1

        with of_option("--start"):
            color = open_picture(start).color

        size = seen_size(problem.operator)
        if tuple(color.shape[-2:]) != size or len(color) not in (1, len(problem.measurement)):
            raise BadArgument(
                f"--start: {color.shape[-1]}x{color.shape[-2]} pixels, and the result has "
                f"{size[1]}x{size[0]}; give one of that size, for each picture or for all"
            )

        return 2 * on_canvas(problem.operator, color.to(problem.measurement.device)) - 1


def check(task: str, arguments: dict[str, Any], options: Options) -> Options:
    """Look at everything that can be judged without a picture; returns the options.

    Raises:
        BadArgument: what cannot be used, and what would be right.
    """
    if options.samples < 1:
        raise BadArgument(f"--samples {options.samples}: must be at least 1")
    if not 0 <= options.seed < 2**63:
        raise BadArgument(f"--seed {options.seed}: must be between 0 and 2^63 - 1")

    settings_for(task, options)

    for network in options.networks:
        check_file(network)

    tasks.check_arguments(arguments)
    cascade, _ = take_cascade(arguments)
    if cascade is not None and (options.start is not None or options.networks):
        what = "--start" if options.start is not None else f"--method {options.method}"
        raise BadArgument(
            f"--cascade and {what}: the stages begin and go by themselves; leave one of them out"
        )

    return options


def check_model(denoiser: TiledDenoiser, options: Options) -> None:
    """Look at what a model must know for the options, whatever the task.

    Raises:
        BadArgument: a sampler that needs a learned variance, or noise levels beyond the model's.
    """
    if options.sampler is not None:
        check_variance(options.sampler, denoiser.learned_variance)

    lowest, highest = (float(denoiser.schedule.sigmas[index]) for index in (0, -1))
    for level in options.levels or ():
        if not 0.99 * lowest <= level <= 1.01 * highest:
            raise BadArgument(
                f"--levels: {level:g} is no noise level of this model, {lowest:.3g} to "
                f"{highest:.4g}"
            )


@cache
def restorer(model: str = "default", device: str = "auto") -> Restorer:
    """A `Restorer`, loaded once for each model and device."""
    return Restorer(model, device)


def model_digest(model: str) -> str:
    """See `pretrained.identity`: what is known of a model belongs to it as long as this stays the
    same.

    Raises:
        Unavailable: there is no such model.
    """
    try:
        return pretrained.identity(model)
    except pretrained.CheckpointError as error:
        raise Unavailable(of_model(model, error)) from None


def load_denoiser(model: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """The denoiser of a checkpoint.

    Raises:
        Unavailable: the checkpoint is missing, damaged or does not fit its description.
    """
    try:
        checkpoint = pretrained.load(model)
        return build_denoiser(
            ModelConfig.from_dict(checkpoint.config), checkpoint.state, device, dtype
        )
    except (pretrained.CheckpointError, ValueError, TypeError, KeyError) as error:
        raise Unavailable(of_model(model, error)) from None


def of_model(model: str, error: Exception) -> str:
    """What is wrong with a model, which may be named by the error, too."""
    return f"--model {model}: {str(error).removeprefix(f'{model}: ')}"


def check_prior(denoise: Denoiser | TiledDenoiser, model: str) -> None:
    """See whether a model knows pictures by themselves.

    Raises:
        BadArgument: it was trained with a condition alone.
    """
    if not denoise.prior:
        raise BadArgument(
            f"--model {model}: it was trained with a low-resolution picture beside the noisy one "
            "and knows no pictures by themselves; use it with restore sr, or another model here"
        )


def sr(
    image: Picture, scale: float = 4, *, model: str = "default", device: str = "auto", **options
) -> Any:
    """See `Restorer.sr`."""
    return restorer(model, device).sr(image, scale, **options)


def inpaint(
    image: Picture, mask: Picture, *, model: str = "default", device: str = "auto", **options
) -> Any:
    """See `Restorer.inpaint`."""
    return restorer(model, device).inpaint(image, mask, **options)


def deblur(
    image: Picture,
    kernel: Kernel = "gaussian:2",
    *,
    model: str = "default",
    device: str = "auto",
    **options,
) -> Any:
    """See `Restorer.deblur`."""
    return restorer(model, device).deblur(image, kernel, **options)


def denoise(
    image: Picture,
    noise: Noise = "auto",
    *,
    model: str = "default",
    device: str = "auto",
    **options,
) -> Any:
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


@contextmanager
def _enough_memory(picture: Tensor) -> Iterator[None]:
    """For the operator and the solver, which act on the whole picture.

    Raises:
        RestoreError: it ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RestoreError(
            f"not enough memory for a picture of {picture.shape[-1]}x{picture.shape[-2]} pixels; "
            "close other programs or restore it in parts; on a GPU a smaller --memory keeps the "
            "picture in the memory of the host"
        ) from error


def _opened(task: str, image: Picture) -> Opened:
    return open_measurement(image) if task == "solve" else open_picture(image)


def _is_predicted(denoiser: TiledDenoiser, problem: Problem) -> bool:
    """Whether the model's predictor is for such a problem, or for some of its pictures."""
    known = denoiser.predictor is not None and has_evidence(problem)
    return known and float(problem.noise.min()) <= PREDICTED_NOISE


def _generator(options: Options) -> torch.Generator:
    return torch.Generator().manual_seed(options.seed)


def _equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """The places of equal keys, in the order of their first ones."""
    places: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    return list(places.values())


def _of_one(report: Report, noise: Tensor, explained: Tensor, index: int) -> Report:
    """Of one picture of a batch."""
    seconds = report.seconds / len(noise)
    found = _root_mean_square(explained[index])
    return replace(report, noise=float(noise[index]), consistency=found, seconds=seconds)


def _root_mean_square(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _packed(opened: Opened, problem: Problem, solutions: Tensor, report: Report) -> Result:
    """Samples [K, B, 3, H, W] as pictures of the kind that came in."""
    alpha = None
    if opened.alpha is not None:
        alpha = _resized(opened.alpha, solutions.shape[-2:])
        solutions = put_back(solutions, opened.color, opened.alpha, problem.keep)

    gray = opened.gray and problem.operator.output_shape[0] == problem.operator.input_shape[0]
    samples = [opened.pack(solution, alpha, gray) for solution in solutions]
    if len(samples) == 1:
        return Result(samples[0], None, samples, report)

    opaque = None if alpha is None else torch.ones_like(alpha)
    mean = opened.pack(solutions.mean(dim=0), alpha, gray)

    return Result(mean, opened.pack(solutions.std(dim=0), opaque, gray), samples, report)


def _short(result: Result) -> Any:
    return result.mean if result.std is None else Samples(result.mean, result.std, result.samples)


def _answer(network: FeedForward, run: Run) -> Tensor:
    """Of a feed-forward network, as a method gives it."""
    answer = 2 * on_canvas(run.problem.operator, network(run.problem)) - 1
    if run.callback is not None:
        run.callback(Step(0, 1, 0.0, answer))
    return answer


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

    return torch.where(
        problem.keep == 1, problem.original, torch.lerp(result, problem.original, problem.keep)
    )


def _result_size(task: str, size: Sequence[int], arguments: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the picture that is sought, where that of what is there is ``size``.

    Raises:
        BadArgument: an operator that cannot be read, or does not fit what it measured.
    """
    height, width = size
    operator = arguments.get("operator")
    if arguments.get("size") is not None and (task == "sr" or operator is not None):
        return arguments["size"][1], arguments["size"][0]
    if task == "sr":
        return round(height * arguments["scale"]), round(width * arguments["scale"])
    if operator is None:
        return height, width

    with of_option("--operator"):
        operator = operators.parse(operator) if isinstance(operator, str) else operator
        measured = isinstance(operator, operators.Degradation)
        shape = (
            operator.input_shape((operator.measured_channels, height, width))
            if measured
            else operator.input_shape
        )

    return shape[1], shape[2]


def _mask(mask: Picture | Tensor, threshold: float) -> Tensor:
    """True where the mask is brighter than the threshold: bool [H, W], or [B, 1, H, W] of a batch
    of masks.
    """
    if hasattr(mask, "dtype") and str(mask.dtype).endswith("bool"):
        values = torch.as_tensor(mask)
        return values if values.ndim != 3 else values[:, None]
    white = open_picture(mask).color.mean(dim=1, keepdim=True) > threshold
    return white[0, 0] if len(white) == 1 else white


def _seen(task: str, opened: Opened, arguments: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """The colours to restore, and the arguments with ``auto`` noise measured where the picture is
    visible.
    """
    if opened.alpha is None or not bool(hidden(opened.alpha).any()):
        return opened.color, arguments
    if task in ("sr", "deblur", "denoise", "colorize") and isinstance(arguments.get("noise"), str):
        smallest = tasks.QUANTISATION_NOISE if task in ("deblur", "denoise") else 0.0
        levels = [max(level, smallest) for level in visible_noise(opened.color, opened.alpha)]
        arguments = {**arguments, "noise": levels}

    return continue_colour(opened.color, opened.alpha), arguments


def _resized(alpha: Tensor, size: torch.Size) -> Tensor:
    if alpha.shape[-2:] == size:
        return alpha
    return F.interpolate(alpha, size=tuple(size), mode="bicubic", align_corners=False).clamp(0, 1)
