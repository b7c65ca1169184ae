"""`restore evaluate`: run every method on every picture of a folder, and score the results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restore.errors import BadArgument, FileAccess, NothingToDo, RestoreError, Unavailable
from restore.evaluate import classical, scores
from restore.evaluate.about import about
from restore.evaluate.meter import Meter
from restore.evaluate.page import Page
from restore.evaluate.protocol import Case, EightBit, degraded, to_eight_bit
from restore.evaluate.result import Evaluation, Outputs, PictureScores
from restore.evaluate.scores import Lpips, Score
from restore.evaluate.settings import Settings, mask_words
from restore.jobs.companions import Companions
from restore.jobs.walk import pictures_in
from restore.messages import say
from restore.methods import METHODS
from restore.methods.feed_forward import NAMED, check_file, is_feed_forward, short_name
from restore.methods.options import Options
from restore.metrics import quality
from restore.photo.apart import decoding_apart
from restore.photo.encode import quantise
from restore.photo.photograph import SUFFIXES, read_photo
from restore.precision import single_precision
from restore.report.html import printable
from restore.restorer import Restorer
from restore.runtime.devices import HOST
from restore.runtime.progress import Progress
from restore.solvers import Step
from restore.tasks import TASKS, Denoising
from restore.tasks.problem import Problem
from restore.text import visible

# Methods of the package's own networks; third-party networks are ``spandrel:FILE``.
LEARNED = ("auto", *METHODS)
# The word for all methods that suit a problem.
EVERY = "all"
_FAILURES = (RestoreError, OSError, RuntimeError, MemoryError)


def evaluate(
    folder: Path, settings: Settings, outputs: Outputs | None = None, *, quiet: bool = True
) -> Evaluation:
    """Degrade every picture of a folder, restore it by every method, and write the outputs.

    An unusable picture is skipped, a method that fails on a picture has no score there, and an
    interrupted evaluation has the finished pictures; the result lists all this, see
    `Evaluation.raise_for_failures`.

    Args:
        folder: folder of pictures.
        settings: settings of the evaluation.
        outputs: output files; None writes none.
        quiet: True to show no progress on stderr.

    Raises:
        FileAccess: no such folder, or an output that exists or cannot be written.
        NothingToDo: no picture in the folder.
        BadArgument: an invalid setting, or a method that does not apply.
        Unavailable: no such model or device, or the package of a method is missing.
        SomeFailed: no picture could be read and degraded.
    """
    outputs = outputs or Outputs()
    result = _measured(folder, settings, outputs, quiet)
    result.write(outputs)
    return result


def command(
    folder: Path,
    settings: Settings,
    outputs: Outputs,
    *,
    quiet: bool = False,
    wording: Callable[[str], str] = str,
) -> None:
    """Run `evaluate` for the command line: print the table, then write the outputs.

    Raises:
        SomeFailed: a picture was skipped, or a method failed on one; after outputs are written.
        KeyboardInterrupt: after the outputs of finished pictures are written.
        RestoreError: as `evaluate`.
    """
    result = _measured(folder, settings, outputs, quiet, wording)
    print(result.markdown(), flush=True)
    result.write(outputs)
    result.raise_for_failures()


@single_precision()
def _measured(
    folder: Path,
    settings: Settings,
    outputs: Outputs,
    quiet: bool,
    wording: Callable[[str], str] = str,
) -> Evaluation:
    settings = settings.completed()
    _refuse_unknown(settings.methods)
    paths = _find(folder, settings)
    outputs.check([*paths, Path(settings.mask)] if settings.mask else paths)
    return _Run(folder, settings, outputs, quiet, wording).work(paths)


class _Run:
    """One evaluation: model, networks and results."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        outputs: Outputs,
        quiet: bool,
        wording: Callable[[str], str],
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.outputs = outputs
        self.quiet = quiet
        self.wording = wording
        learned = uses_model(settings)
        self.restorer = Restorer(settings.model, settings.device) if learned else None
        self.networks = _by_short_name(settings.methods)
        if self.restorer is not None:
            # an unknown class fails here, not for every picture
            self.restorer.of_class(settings.label)

        for network in self.networks.values():
            assert self.restorer is not None
            self.restorer.network(network)

        self.device = self.restorer.device if self.restorer else HOST
        self.result = Evaluation({}, [], Page(outputs.page_bytes) if outputs.report else None)
        self.lpips = self._lpips()
        self.kind = TASKS[settings.task].kind
        self.masks = _masks(settings)

    def work(self, paths: list[Path]) -> Evaluation:
        """Evaluate every picture; an interrupt keeps the finished ones."""
        try:
            with decoding_apart(), Progress(len(paths), quiet=self.quiet) as progress:
                for path in paths:
                    progress.picture(path.name)
                    self._picture(path, progress)
        except KeyboardInterrupt:
            if not self.result.pictures:
                raise
            self.result.interrupted = True
            self.result.notices.append(
                f"Interrupted after {len(self.result.pictures)} of {len(paths)} pictures."
            )

        if not self.result.pictures:
            self.result.raise_for_failures()

        self.result.about = about(
            self.settings,
            self.folder,
            self.kind,
            self.result.methods,
            self.restorer,
            self.networks,
        )

        return self.result

    def _picture(self, path: Path, progress: Progress) -> None:
        case = self._case(path, progress)
        if case is None:
            return
        if not self.result.methods:
            self.result.methods = self._methods(case)
            self.kind = case.kind
            self._warm_up(case)

        self._restore_all(case, progress)

    def _case(self, path: Path, progress: Progress) -> Case | None:
        """Return the degraded picture of a file; None if it is skipped."""
        name = path.relative_to(self.folder).as_posix()
        try:
            mask = None
            if self.settings.mask and mask_words(self.settings) is None:
                mask = self.masks.of(path, path.relative_to(self.folder))
            picture = _eight_bit(read_photo(path).pixels)
            with torch.no_grad():
                return degraded(self.settings, name, picture, mask)
        except _FAILURES as error:
            reason = self._reason(error, name)
            self.result.skipped.append((printable(name), reason))
            progress.say(f"{printable(name)} skipped: {reason}")
            return None

    def _reason(self, error: BaseException, name: str) -> str:
        """Return the text of an error without folders, which are private, and without the name."""
        text = self.wording(str(error)) or type(error).__name__
        if self.settings.mask:
            text = text.replace(visible(self.settings.mask), visible(Path(self.settings.mask).name))
        if self.folder.name:  # empty for "."
            text = text.replace(visible(f"{self.folder}/"), "")
        return printable(text.removeprefix(f"{visible(name)}: "))

    def _methods(self, case: Case) -> list[str]:
        """Return the chosen methods; without a choice, those that are compared by default."""
        learned = self._learned(case)
        suitable = [*classical.suitable(case), *learned]
        given = [short_name(method) for method in self.settings.methods]
        wanted = list(dict.fromkeys(name for name in given if name != EVERY))
        for name in wanted:
            if name in self.networks:
                self._check_network(self.networks[name], case)
            elif name not in suitable and name != "auto":
                raise BadArgument(
                    f"`methods`={name}: does not suit {case.written or self.settings.task}; these "
                    f"do: {', '.join([*suitable, 'auto'])}"
                )
            if not classical.installed(name):
                raise Unavailable(
                    f"`methods`={name}: the package {classical.OPTIONAL[name]} is not installed"
                )

        if wanted and EVERY not in given:
            return wanted

        if EVERY not in given:
            suitable = [name for name in suitable if name not in learned or METHODS[name].compared]
        for name in (name for name in suitable if not classical.installed(name)):
            self.result.notices.append(
                f"{name} is left out: the package {classical.OPTIONAL[name]} is not installed."
            )

        able = [name for name in suitable if classical.installed(name)]
        return list(dict.fromkeys([*able, *wanted]))

    def _problem(self, case: Case) -> Problem:
        assert self.restorer is not None
        return self.restorer.problem(case.task, case.task.opened(case.file).color)

    def _check_network(self, network: str, case: Case) -> None:
        """Refuse a feed-forward network that does not suit the problem."""
        assert self.restorer is not None
        self.restorer.network(network).check(self._problem(case))

    def _learned(self, case: Case) -> list[str]:
        """Return the learned methods for a degraded picture; all of them without a model."""
        if self.restorer is None:
            return list(METHODS)

        problem = self._problem(case)
        denoiser = self.restorer.denoiser
        has = {
            "conditional": denoiser.conditional,
            "prior": denoiser.prior,
            "bridge": denoiser.bridge,
            "latent": denoiser.autoencoder is not None,
        }
        return [name for name, method in METHODS.items() if method.suits(problem, **has)]

    def _warm_up(self, case: Case) -> None:
        """Run the network once, to keep the set-up of PyTorch out of measured times."""
        if self.restorer is not None and self.restorer.denoiser.prior:
            self.restorer.run(
                Denoising(0.1), case.truth, method="one-step", label=self.settings.label
            )

    def _restore_all(self, case: Case, progress: Progress) -> None:
        """Restore a picture by every method, and keep the scores."""
        results: dict[str, EightBit] = {}
        of_methods: dict[str, Score] = {}
        name = case.name

        for method in self.result.methods:
            progress.bars.reset(progress.part, description=f"{name} {method}", total=None)
            try:
                with torch.no_grad():
                    result, of_methods[method] = self._restore(method, case, progress.step)
                    results[method] = result
            except Exception as error:  # third-party methods may raise anything
                reason = self._reason(error, name)
                self.result.failures.append((name, method, reason))
                progress.say(f"{name} {method}: failed: {reason} (going on)")
                continue
            one = of_methods[method]
            progress.say(
                f"{name} {method}: {one.psnr:.2f} dB"
                + (f", {one.seconds:.2f} s" if one.seconds else "")
            )

        digest = hashlib.sha256(np.ascontiguousarray(case.truth).tobytes()).hexdigest()
        size = case.size[::-1]
        floor = scores.consistency(case, case.truth)
        self.result.pictures.append(PictureScores(name, size, digest, floor, of_methods))
        if self.result.page is not None:
            self.result.page.add(case, results, of_methods)

    def _restore(
        self, method: str, case: Case, callback: Callable[[Step], None]
    ) -> tuple[EightBit, Score]:
        """Return the result of a method in 8 bits, and its scores."""
        calls = 0

        def count(step: Step) -> None:
            nonlocal calls
            calls += 1
            callback(step)

        with Meter(self.device if is_learned(method) else HOST) as meter:
            if is_learned(method):
                result = self._by_network(method, case, count)
            else:
                result = to_eight_bit(classical.suitable(case)[method](case))

        one = scores.score(case, result, self.lpips, self.settings.cropped_border)
        if method == classical.INPUT:
            return result, one

        values = {**asdict(one), "calls": calls, "seconds": meter.seconds, "memory": meter.memory}

        return result, Score(**values)

    def _by_network(self, method: str, case: Case, callback: Callable[[Step], None]) -> EightBit:
        assert self.restorer is not None
        settings = self.settings
        one_step = method in METHODS and "steps" in METHODS[method].refusals
        steps = None if one_step or method in self.networks else settings.steps
        named = self.networks.get(method, method)
        options = Options(named, steps, seed=settings.seed, label=settings.label)
        result = self.restorer.restore(case.task, case.file, options, callback).mean
        if isinstance(result, Tensor):
            result = to_eight_bit(result.permute(1, 2, 0).float().cpu().numpy())

        return result

    def _lpips(self) -> Lpips | None:
        try:
            return quality.load_lpips()
        except Unavailable as error:
            self.result.notices.append("The column LPIPS is empty: AlexNet's weights are not here.")
            if not self.quiet:
                say(f"The column LPIPS stays empty. {error}")
            return None


def uses_model(settings: Settings) -> bool:
    """Return True if one of the methods needs the model, or none is chosen."""
    chosen = settings.methods
    return not chosen or EVERY in chosen or any(map(is_learned, chosen))


def is_learned(method: str) -> bool:
    """Return True if a method uses a network."""
    return method in LEARNED or is_feed_forward(method)


def _by_short_name(methods: Iterable[str]) -> dict[str, str]:
    """Return the feed-forward networks among the methods by their names in results."""
    named: dict[str, str] = {}
    for method in filter(is_feed_forward, methods):
        check_file(method)
        if named.setdefault(short_name(method), method) != method:
            raise BadArgument(
                f"`methods`: two networks in files named {Path(method).name}; rename one"
            )

    return named


def _masks(settings: Settings) -> Companions:
    return Companions(Path(settings.mask) if settings.mask else None)


def _find(folder: Path, settings: Settings) -> list[Path]:
    if not folder.exists():
        raise FileAccess(f"{folder}: no such folder")
    if not folder.is_dir():
        raise FileAccess(f"{folder}: a file; give a folder of pictures")

    masks = _masks(settings)
    leave_out = [] if masks.given is None else [masks.given]
    paths = [p for p in pictures_in(folder, SUFFIXES, leave_out) if not masks.takes(p)]
    if not paths:
        raise NothingToDo(
            f"{folder}: no picture in this folder (looked for {', '.join(sorted(SUFFIXES))})"
        )

    return paths[: settings.count]


def _refuse_unknown(methods: Iterable[str]) -> None:
    known = dict.fromkeys([*classical.NAMES, *LEARNED, EVERY])
    for name in methods:
        if name not in known and not is_feed_forward(name):
            raise BadArgument(
                f"`methods`={name}: unknown; there are {', '.join(known)}, and {NAMED}"
            )


def _eight_bit(pixels: np.ndarray) -> EightBit:
    """Convert [H, W, 1 or 3] in [0, 1] to RGB in 8 bits."""
    return np.ascontiguousarray(np.broadcast_to(quantise(pixels, 8), (*pixels.shape[:2], 3)))
