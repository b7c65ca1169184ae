"""The Python interface: a loaded model with one method for each task."""

from __future__ import annotations

import inspect
import math
import re
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from functools import cache, partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

import pretrained
from restore.diffusion import stepping
from restore.diffusion.denoiser import Denoiser, ModelConfig, build_denoiser
from restore.diffusion.protocol import DenoiserLike
from restore.diffusion.stepping import Callback, Generator, Step
from restore.errors import BadArgument, RestoreError, Unavailable, of_option
from restore.methods import METHODS, fidelity
from restore.methods.cascade import solve_in_stages
from restore.methods.conditions import PREDICTED_NOISE
from restore.methods.defaults import Defaults
from restore.methods.doubt import unexplained_by
from restore.methods.feed_forward import (
    FeedForward,
    check_file,
    is_feed_forward,
    on_canvas,
    seen_size,
)
from restore.methods.options import ANY_MODEL, Knowledge, Options
from restore.methods.report import Report, Result, Samples
from restore.methods.requirements import takes_decomposed
from restore.methods.run import Run
from restore.methods.settings import check_suited, settings_for, takes_intervals
from restore.metrics.quality import consistency
from restore.photo.alpha import put_back
from restore.photo.pictures import open_picture
from restore.precision import single_precision
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
from restore.tasks import TASKS, Automatic, SuperResolution, Task
from restore.tasks.compression import fraction_inside, stated
from restore.tasks.inverse import has_evidence
from restore.tasks.kind import Kind, behind_jpeg
from restore.tasks.option import is_signal, options_of
from restore.tasks.problem import Problem

if TYPE_CHECKING:
    from restore.findings.finding import Finding
    from restore.photo.pictures import Opened, Picture

# Largest number of posterior samples: all of them lie in memory, and more are mistyped.
MAX_SAMPLES = 1000


class Restorer:
    """A model on a device, ready to restore pictures.

    >>> restorer = Restorer()  # doctest: +SKIP
    >>> large = restorer.sr(image, scale=4)  # doctest: +SKIP
    >>> four = restorer.inpaint(image, mask, samples=4, seed=7).samples  # doctest: +SKIP

    It has a method for each task of `restore.tasks.TASKS`: `sr`, `inpaint`, `deblur`, `denoise`,
    `colorize`, `develop` and `solve`. They take a PIL image, a numpy array (uint8, uint16 or float
    in [0, 1]) or a tensor (see `restore.photo.pictures.open_picture`), then the task's options, and
    return the same type and depth, with alpha; `develop` takes the path of a camera raw and returns
    a float32 array [H, W, 3]. They accept the fields of
    `restore.methods.options.Options` as keywords, and ``callback``, called with a
    `restore.diffusion.stepping.Step` after each call of the network. With ``samples`` above 1 they
    return `Samples`.

    Args:
        model: ``default``, another name or the path of a checkpoint, see
            `pretrained.checkpoint_path`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        tile: side of a tile of a large picture, in pixels; None is what the memory allows.
        memory: memory to use on the device, such as ``4GB``; None is most of what is free.
        notice: called with warnings, such as that of smaller tiles after memory ran out.

    Raises:
        BadArgument: a tile or memory that is too small, or an unknown device.
        Unavailable: no such model or device.
    """

    @single_precision()
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
        self._asked: tuple[Kind, Knowledge, Options] | None = None
        self._found: tuple[str, Defaults] | None = None

    def of_class(self, label: int | None) -> TiledDenoiser:
        """Return the denoiser of a class, cached for later pictures; None is for models without.

        Raises:
            BadArgument: there is no such class, or the model has classes and none is given.
        """
        if label is None:
            return self.denoiser.of_class(None)
        if label not in self._of_class:
            self._of_class[label] = self.denoiser.of_class(label)
        return self._of_class[label]

    def run(
        self,
        task: Task,
        image: Picture,
        *,
        callback: Callback | None = None,
        **options: Any,
    ) -> Result:
        """Restore a picture and report how; the methods named after tasks call this.

        >>> from restore.tasks import SuperResolution
        >>> result = restorer.run(SuperResolution(2), image, seed=3)  # doctest: +SKIP
        >>> result.report.consistency  # doctest: +SKIP

        Args:
            task: the task with its options.
            image: a picture, see `restore.photo.pictures.open_picture`.
            callback: called with a `Step` after each call of the network.
            options: fields of `restore.methods.options.Options`.

        Raises:
            BadArgument: an invalid option.
            TypeError: there is no such option.
        """
        for name in options.keys() - {field.name for field in fields(Options)}:
            raise TypeError(f"{task.name}() got an unexpected keyword argument '{name}'")

        return self.restore(task, image, check(task, Options(**options)), callback)

    @single_precision()
    def restore(
        self, task: Task, image: Picture, options: Options, callback: Callback | None = None
    ) -> Result:
        """Restore a picture with options that `check` accepted.

        Raises:
            BadArgument: options that do not fit the picture or the model.
        """
        opened = task.opened(image)
        task = replace(task, rounding=(opened.rounding,))
        if self._takes_file(task, options):
            task = replace(task, stored=(opened.stored,))

        with _enough_memory(opened.color):
            color, task = task.of_visible(opened)
            cascade = task.cascade_stages
            if cascade is not None:
                assert isinstance(task, SuperResolution)
                problem, solutions, report = solve_in_stages(
                    self, task, color, cascade, options, callback
                )
            elif task.one_by_one:
                problems = [self.problem(one, color) for one, color in task.apart(color)]
                problem = problems[0]
                solutions, report = self._solve_apart(problems, options, callback)
                solutions = task.together(solutions)
            else:
                problem = self.problem(task, color)
                solutions, report = self.solve_problem(problem, options, callback)

        result = _packed(opened, problem, solutions, report)
        return _with_findings(result, problems) if task.one_by_one else result

    def _takes_file(self, task: Task, options: Options) -> bool:
        """Return True if the intervals of a JPEG file can be part of the problem of a picture."""
        no_knob = options.fidelity is not None and behind_jpeg(task.kind).etas is None
        if task.cascade_stages is not None or no_knob:
            return False
        asked = getattr(task, "jpeg", None) is not None or not task.kind.is_linear
        return asked or takes_intervals(options, _known(self.denoiser))

    @single_precision()
    def restore_together(
        self,
        task: Task,
        images: Sequence[Picture],
        options: Options,
        callback: Callback | None = None,
    ) -> list[Result]:
        """Restore pictures of equal size in one batch, each as `restore` restores it alone.

        Each picture has its own random numbers from the same seed, its own noise level and its own
        report, with its part of the seconds. Results equal those of `restore` up to rounding in
        convolutions and matrix products, which may depend on the batch size. Pictures that need
        other noise levels go in batches of their own. If memory runs out, the error is that of
        PyTorch, so that a caller can try fewer pictures.

        Args:
            task: one task for all, without a cascade; one that estimates kernels, finds masks or
                takes raws goes through the pictures one by one.
            images: pictures of one type and size, without alpha.
            options: as for `restore`.
            callback: as for `restore`.

        Raises:
            BadArgument: as `restore`, for any of the pictures.
            ValueError: a picture with alpha, pictures that differ in size, or a cascade.
        """
        alone = task.one_by_one or task.takes_raws
        opened = [] if alone else [task.opened(image) for image in images]
        if alone or any(one.stored is not None for one in opened):
            return [self.restore(task, image, options, callback) for image in images]

        one_size = (1, *opened[0].color.shape[1:])
        if any(one.alpha is not None or one.color.shape != one_size for one in opened):
            raise ValueError("pictures that are restored together have one size and no alpha")
        if task.cascade_stages is not None:
            raise ValueError("pictures go through a cascade one by one")

        task = replace(task, rounding=[one.rounding for one in opened])
        problem = self.problem(task, torch.cat([one.color for one in opened]))
        method, run = self._run(problem, options, [_generator(options) for _ in opened], callback)
        if len(parts := _equal(run.trajectories)) > 1:
            del problem, run
            return _in_parts(
                lambda part: self.restore_together(task, part, options, callback), images, parts
            )

        solutions, explained, report = self._solved(method, run, options)
        reports = [_of_one(report, problem, explained, index) for index in range(len(opened))]

        return [
            _packed(one, problem, solutions[:, [index]], reports[index])
            for index, one in enumerate(opened)
        ]

    def pictures_at_once(self, task: Task, size: tuple[int, int], wanted: int | None = None) -> int:
        """Return the best batch size for pictures of a size (height, width).

        See `restore.runtime.budget.Budget.pictures`.

        Raises:
            BadArgument: an operator that cannot be parsed or does not fit the measurement.
        """
        if task.one_by_one or task.takes_raws:
            return 1
        height, width = task.result_size(size)
        return self.budget.pictures(height * width, wanted)

    @single_precision()
    def network(self, method: str) -> FeedForward:
        """Return the feed-forward network of ``spandrel:FILE``, loaded once.

        Raises:
            Unavailable: see `FeedForward`.
        """
        if method not in self._networks:
            self._networks[method] = FeedForward(
                method, self.device, tile=self._tile, memory=self.budget.memory, notice=self._notice
            )
        return self._networks[method]

    def prepare(self, task: Task, options: Options) -> None:
        """Load the networks that options name, and check the options against the model.

        A run calls this first, to fail before any work.

        Raises:
            BadArgument: a class, sampler, noise level, method or task that does not suit the model.
            Unavailable: a network that cannot be loaded.
        """
        for network in options.networks:
            self.network(network)

        denoiser = self.of_class(options.label)
        check_model(denoiser, options)
        if not task.takes_measurements:  # else each picture's operator decides the kind
            self._settings(task.kind, options, _known(denoiser))

    def _settings(self, kind: Kind, options: Options, known: Knowledge) -> tuple[str, Defaults]:
        """Return what `settings_for` does, found once for the pictures of a run."""
        asked = self._asked
        same = asked is not None and asked[:2] == (kind, known) and asked[2] is options
        if not same or self._found is None:
            self._found = settings_for(kind, options, known)
            self._asked = kind, known, options

        return self._found

    @single_precision()
    def problem(self, task: Task, color: Tensor) -> Problem:
        """State the inverse problem of a task on pictures [B, 3, H, W] in [0, 1].

        It is on the device, or on the host if it is too large, see `restore.runtime.budget`.
        """
        height, width = task.result_size((color.shape[-2], color.shape[-1]))
        pixels = len(color) * height * width
        place = self.budget.place(pixels, self.device)
        if place == HOST == self.device and self.budget.is_filled(pixels):
            hand_back_freed_memory()

        return stated(task, color, device=place)

    @single_precision()
    def solve_problem(
        self, problem: Problem, options: Options, callback: Callback | None = None
    ) -> tuple[Tensor, Report]:
        """Return samples [K, B, 3, H, W] in [0, 1] on the CPU, and a report."""
        if problem.is_answered:
            return self._as_it_was(problem, options)

        method, run = self._run(problem, options, _generator(options), callback)
        solutions, _explained, report = self._solved(method, run, options)
        return solutions, report

    def _as_it_was(self, problem: Problem, options: Options) -> tuple[Tensor, Report]:
        """Return pictures that need no solver, in the form of `solve_problem`."""
        original = problem.original
        assert original is not None
        solutions = original.cpu().expand(options.samples, *original.shape).clone()
        report = Report(
            task=problem.task,
            operator=problem.written,
            method="none",
            steps=0,
            samples=options.samples,
            seed=options.seed,
            noise=float(problem.noise.mean()),
            consistency=0.0,
            unexplained=0.0,
            seconds=0.0,
            model=self.model,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            **_findings(problem),
            signal_noise=problem.signal_noise,
        )
        return solutions, report

    def _solve_apart(
        self, problems: Sequence[Problem], options: Options, callback: Callback | None
    ) -> tuple[Tensor, Report]:
        """Solve problems of one picture each; return what `solve_problem` does for all together."""
        solved = [self.solve_problem(problem, options, callback) for problem in problems]
        reports = [report for _, report in solved]
        main = next((report for report in reports if report.steps), reports[0])
        together = replace(
            main,
            noise=fmean(report.noise for report in reports),
            consistency=math.sqrt(fmean(report.consistency**2 for report in reports)),
            unexplained=math.sqrt(fmean(report.unexplained**2 for report in reports)),
            seconds=sum(report.seconds for report in reports),
            kernels=tuple(found for report in reports for found in report.kernels),
            signal_noise=tuple(pair for report in reports for pair in report.signal_noise),
            inside=_inside(problems, reports),
            damage=tuple(found for report in reports for found in report.damage),
            findings=tuple(found for report in reports for found in report.findings),
        )
        return torch.cat([solution for solution, _ in solved], dim=1), together

    def _run(
        self, problem: Problem, options: Options, generator: Generator, callback: Callback | None
    ) -> tuple[str, Run]:
        """Return the name of the method, and its input without a start."""
        denoiser = self.of_class(options.label)
        check_model(denoiser, options)
        known = _known(denoiser, problem)
        method, settings = self._settings(problem.kind, options, known)
        check_suited(method, problem, known)

        return method, Run(denoiser, problem, settings, generator, callback)

    def _solved(self, method: str, run: Run, options: Options) -> tuple[Tensor, Tensor, Report]:
        """Run a method on a problem.

        Returns:
            Samples as from `solve_problem`, [B, 2] consistency and what is unexplained of each
            picture, and a report.
        """
        problem = run.problem
        started = time.perf_counter()
        counted = _Counted(run.callback)
        with _mode(method):
            run = replace(run, start=self._start(problem, options.start), callback=counted)
            solve = (
                partial(_answer, self.network(method))
                if is_feed_forward(method)
                else partial(fidelity.solve, METHODS[method])
            )
            found = [solve(run) for _ in range(options.samples)]
            solutions = torch.stack([_finished(one, problem) for one in found])
            explained = consistency(problem.operator, solutions.mean(dim=0), problem.measurement)
            unexplained = explained
            if not is_feed_forward(method):
                unexplained = unexplained_by(problem, found, solutions, explained)
            del found
            inside = fraction_inside(problem, solutions.mean(dim=0))
            solutions = problem.operator.visible(solutions)
            synchronize(self.device)

        foreign = self._networks.get(method)
        report = Report(
            task=problem.task,
            operator=problem.written,
            method=method if foreign is None else foreign.name,
            steps=counted.steps(run, options.samples),
            samples=options.samples,
            seed=options.seed,
            noise=float(problem.noise.mean()),
            consistency=_root_mean_square(explained),
            unexplained=_root_mean_square(unexplained),
            seconds=time.perf_counter() - started,
            model=self.model if foreign is None else foreign.architecture,
            device=str(self.device),
            dtype=str(self.dtype if foreign is None else torch.float32).removeprefix("torch."),
            **_findings(problem),
            signal_noise=problem.signal_noise,
            jpeg=problem.saved or None,
            inside=inside,
        )

        # no longer tied to the mode
        misfits = torch.stack([explained, unexplained], dim=1)
        return solutions.detach().cpu().clone(), misfits.detach(), report

    def _start(self, problem: Problem, start: Picture | str | None) -> Tensor | None:
        """Return `Run.start` for `Options.start`.

        Raises:
            BadArgument: a start that is not a picture of the result's size, or not one for each
                picture.
        """
        if start is None:
            return None
        if isinstance(start, str):
            if not is_feed_forward(start):
                raise BadArgument(f"`start`={start!r}: must be a picture, or spandrel:FILE")
            return 2 * on_canvas(problem.operator, self.network(start)(problem)) - 1

        with of_option("start"):
            color = open_picture(start).color

        size = seen_size(problem.operator)
        if tuple(color.shape[-2:]) != size or len(color) not in (1, len(problem.measurement)):
            raise BadArgument(
                f"`start`: {color.shape[-1]}x{color.shape[-2]} pixels, and the result has "
                f"{size[1]}x{size[0]}; give one of that size, for each picture or for all"
            )

        return 2 * on_canvas(problem.operator, color.to(problem.measurement.device)) - 1


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


def check(task: Task, options: Options) -> Options:
    """Check everything that can be checked without a picture, and return the options.

    Raises:
        BadArgument: an invalid option.
    """
    if not 1 <= options.samples <= MAX_SAMPLES:
        raise BadArgument(f"`samples`={options.samples}: must be between 1 and {MAX_SAMPLES}")
    if not 0 <= options.seed < 2**63:
        raise BadArgument(f"`seed`={options.seed}: must be between 0 and 2^63 - 1")

    settings_for(task.kind, options, _known_before(task))
    for network in options.networks:
        check_file(network)

    task.check()
    if task.takes_raws and (options.start is not None or options.networks):
        what = "`start`" if options.start is not None else f"`method`={options.method}"
        raise BadArgument(f"{what}: is for pictures, and {task.name} takes camera raws")
    if task.cascade_stages is not None and (options.start is not None or options.networks):
        what = "`start`" if options.start is not None else f"`method`={options.method}"
        raise BadArgument(
            f"`cascade` and {what}: the stages begin and go by themselves; leave one of them out"
        )

    return options


def check_model(denoiser: TiledDenoiser, options: Options) -> None:
    """Check options against a model, for any task.

    Raises:
        BadArgument: a sampler that needs a learned variance, or noise levels beyond the model's.
    """
    if options.sampler is not None:
        check_variance(options.sampler, denoiser.learned_variance)

    lowest, highest = (float(denoiser.schedule.sigmas[index]) for index in (0, -1))
    for level in options.levels or ():
        if not 0.99 * lowest <= level <= 1.01 * highest:
            raise BadArgument(
                f"`levels`: {level:g} is no noise level of this model, {lowest:.3g} to "
                f"{highest:.4g}"
            )


@cache
def restorer(model: str = "default", device: str = "auto") -> Restorer:
    """Return a `Restorer`, loaded once for each model and device."""
    return Restorer(model, device)


def model_digest(model: str) -> str:
    """Return the identity of a model, see `pretrained.identity`.

    Raises:
        Unavailable: there is no such model.
    """
    try:
        return pretrained.identity(model)
    except pretrained.CheckpointError as error:
        raise Unavailable(of_model(model, error)) from None


@single_precision()
def load_denoiser(model: str, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """Return the denoiser of a checkpoint.

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
    """Return the text of an error about a model, which the error may name itself."""
    return f"`model`={model}: {str(error).removeprefix(f'{model}: ')}"


def check_prior(denoise: DenoiserLike, model: str) -> None:
    """Refuse a model without an unconditional prior.

    Raises:
        BadArgument: the model is purely conditional.
    """
    if not denoise.prior:
        raise BadArgument(
            f"`model`={model}: it was trained with a low-resolution picture beside the noisy one "
            "and knows no pictures by themselves; use it with restore sr, or another model here"
        )


def _method_of(task: type[Task]) -> Callable[..., Any]:
    """Return the method of `Restorer` for a task, documented by its options."""
    names = {field.name for field in fields(task)}

    def method(self: Restorer, image: Picture, *values: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in tuple(options) if name in names}
        return _short(self.run(task(*values, **own), image, **options))

    return _documented(method, task, ["self"])


def _function_of(task: type[Task]) -> Callable[..., Any]:
    """Return the function for a task, which loads the model once."""

    def function(
        image: Picture, *values: Any, model: str = "default", device: str = "auto", **options: Any
    ) -> Any:
        return getattr(restorer(model, device), task.name)(image, *values, **options)

    return _documented(function, task, [], model="default", device="auto")


def _documented(
    function: Callable[..., Any], task: type[Task], first: list[str], **more: str
) -> Callable[..., Any]:
    """Give a function the name, signature and documentation of a task."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    keyword = inspect.Parameter.KEYWORD_ONLY
    options = options_of(task)
    own = [
        parameter.replace(annotation=options[name].type)
        for name, parameter in inspect.signature(task).parameters.items()
        if name in options
    ]
    parameters = [
        *(inspect.Parameter(name, positional) for name in (*first, "image")),
        *own,
        *(inspect.Parameter(name, keyword, default=value) for name, value in more.items()),
        inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD),
    ]
    lines = [
        task.about,
        "",
        "Args:",
        "    image: a picture, see `Restorer`.",
        *(f"    {name}: {_in_python(option.option.help)}" for name, option in options.items()),
        "    options: fields of `restore.methods.options.Options`, and ``callback``.",
    ]
    function.__name__ = task.name
    function.__qualname__ = f"Restorer.{task.name}" if first else task.name
    function.__doc__ = "\n".join(lines)
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

    return function


def _in_python(text: str) -> str:
    """Replace the name of the input in the command by that of the parameter."""
    return re.sub(r"\bIN\b", "image", text)


for _task in TASKS.values():
    setattr(Restorer, _task.name, _method_of(_task))

globals().update({name: _function_of(task) for name, task in TASKS.items()})


@contextmanager
def _enough_memory(picture: Tensor) -> Iterator[None]:
    """Turn an out-of-memory error of operator or solver into an error for users.

    Raises:
        RestoreError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise RestoreError(
            f"not enough memory for a picture of {picture.shape[-1]}x{picture.shape[-2]} pixels; "
            "close other programs or restore it in parts; on a GPU a smaller `memory` keeps the "
            "picture in the memory of the host"
        ) from error


def _mode(method: str) -> AbstractContextManager[Any]:
    """Return the mode in which PyTorch runs a method: without gradients if it needs none."""
    known = METHODS.get(method)
    return torch.enable_grad() if known and known.needs_gradient else torch.inference_mode()


def _known_before(task: Task) -> Knowledge:
    """Return what options are checked against before the model is loaded."""
    varies = task.takes_signal_noise and is_signal(getattr(task, "noise", None))
    return replace(ANY_MODEL, noise_map=varies)


def _known(denoiser: TiledDenoiser, problem: Problem | None = None) -> Knowledge:
    """Return the capabilities of a model, for a problem if one is given."""
    predictor = denoiser.predictor is not None
    if problem is None:
        return Knowledge(
            denoiser.conditional,
            denoiser.prior,
            predictor,
            bridge=denoiser.bridge,
            enlarges_only=denoiser.enlarges_only,
        )

    quiet = float(problem.noise.min()) <= PREDICTED_NOISE
    return Knowledge(
        denoiser.conditional,
        denoiser.prior,
        predictor and has_evidence(problem) and quiet,
        takes_decomposed(problem.operator),
        problem.noise_map is not None,
        denoiser.bridge,
        denoiser.enlarges_only,
    )


class _Counted:
    """A callback that counts the network calls before it hands them on.

    Args:
        callback: called with each `Step`, if given.
    """

    def __init__(self, callback: Callback | None) -> None:
        self._callback = callback
        self._calls = 0

    def __call__(self, step: Step) -> None:
        self._calls += 1
        if self._callback is not None:
            self._callback(step)

    def steps(self, run: Run, samples: int) -> int:
        """Return the steps of every sample: as many as were chosen, or fewer calls.

        Some methods cannot use every number of calls, and some samplers take several in a step.
        """
        chosen = run.settings.steps + (run.settings.mean_weight > 0)
        return min(chosen, self._calls // samples or chosen)


def _generator(options: Options) -> torch.Generator:
    return torch.Generator().manual_seed(options.seed)


def _equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the indices of equal keys, in the order of first occurrence."""
    places: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        places.setdefault(key, []).append(index)
    return list(places.values())


def _in_parts(
    restore: Callable[[Sequence[Picture]], list[Result]],
    images: Sequence[Picture],
    parts: Sequence[Sequence[int]],
) -> list[Result]:
    """Restore parts of a batch one after the other; the results keep the order of the images."""
    found: dict[int, Result] = {}
    for part in parts:
        results = restore([images[index] for index in part])
        found.update(zip(part, results, strict=True))

    return [found[index] for index in range(len(images))]


def _of_one(report: Report, problem: Problem, explained: Tensor, index: int) -> Report:
    """Return the report of one picture of a batch."""
    found, left = explained[index].tolist()
    return replace(
        report,
        noise=float(problem.noise[index]),
        consistency=found,
        unexplained=left,
        seconds=report.seconds / len(problem.noise),
        signal_noise=problem.signal_noise[index : index + 1],
    )


def _inside(problems: Sequence[Problem], reports: Sequence[Report]) -> float | None:
    """Return the fraction of the coefficients of all files that are in their intervals."""
    found = [
        (one.file.count, report.inside)
        for one, report in zip(problems, reports, strict=True)
        if one.file is not None and report.inside is not None
    ]
    total = sum(count for count, _ in found)
    return sum(count * inside for count, inside in found) / total if total else None


def _root_mean_square(values: Tensor) -> float:
    return float(values.detach().square().mean().sqrt())


def _packed(opened: Opened, problem: Problem, solutions: Tensor, report: Report) -> Result:
    """Return samples [K, B, 3, H, W] as pictures of the type of the input."""
    alpha = None
    if opened.alpha is not None:
        alpha = _resized(opened.alpha, solutions.shape[-2:])
        solutions = put_back(solutions, opened.color, opened.alpha, problem.keep)

    gray = problem.stays_grey(opened)
    samples = [opened.pack(solution, alpha, gray) for solution in solutions]
    if len(samples) == 1:
        return Result(samples[0], None, samples, report)

    opaque = None if alpha is None else torch.ones_like(alpha)
    mean = opened.pack(solutions.mean(dim=0), alpha, gray)

    # what is packed by a curve has another deviation
    spread = (
        opened.pack(solutions.std(dim=0), opaque, gray)
        if opened.source is None
        else np.std(np.stack(samples), axis=0, ddof=1)
    )

    return Result(mean, spread, samples, report)


def _findings(problem: Problem) -> dict[str, Any]:
    """Return what a report says about the kernel and the scratches that were found."""
    estimate, damage = problem.estimate, problem.damage
    kernels = () if estimate is None else (estimate.finding,)
    scratches = () if damage is None else (damage.finding,)
    return {"kernels": kernels, "damage": scratches, "findings": problem.findings}


def _with_findings(result: Result, problems: Sequence[Problem]) -> Result:
    """Return the result with the estimated kernel or the mask of each problem."""
    kernels = tuple(one.estimate.kernel for one in problems if one.estimate is not None)
    masks = tuple(one.damage.mask for one in problems if one.damage is not None)
    return result._replace(kernels=kernels, masks=masks)


def _short(result: Result) -> Any:
    return result.mean if result.std is None else Samples(result.mean, result.std, result.samples)


def _answer(network: FeedForward, run: Run) -> Tensor:
    """Return the output of a feed-forward network in the form of a method."""
    answer = 2 * on_canvas(run.problem.operator, network(run.problem)) - 1
    stepping.report(run.callback, 0, 1, 0.0, answer)
    return answer


def _finished(solution: Tensor, problem: Problem) -> Tensor:
    """Map a solution from [-1, 1] to [0, 1], and restore the pixels that must not change.

    Raises:
        RuntimeError: the result is not finite.
    """
    if not bool(torch.isfinite(solution).all()):
        raise RuntimeError(f"the {problem.task} result is not finite (NaN or infinity)")

    result = ((solution + 1) / 2).clamp(0, 1)
    if problem.keep is None or problem.original is None:
        return result

    return torch.where(
        problem.keep == 1, problem.original, torch.lerp(result, problem.original, problem.keep)
    )


def _resized(alpha: Tensor, size: torch.Size) -> Tensor:
    if alpha.shape[-2:] == size:
        return alpha
    return F.interpolate(alpha, size=tuple(size), mode="bicubic", align_corners=False).clamp(0, 1)
