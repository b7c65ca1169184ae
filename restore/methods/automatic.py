"""What ``auto``, ``fast`` and ``fidelity`` choose for a kind of problem."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from restore.errors import BadArgument
from restore.methods import METHODS
from restore.methods.defaults import Defaults
from restore.methods.method import Method
from restore.tasks.kind import Kind

if TYPE_CHECKING:
    from restore.methods.options import Knowledge, Options


# The method that measures best with models of latents, on all kinds of problems (docs/latent.md).
BEST_OF_LATENTS = "psld"

# Most calls for which the best method of few calls is taken.
FEW = 12


def best(kind: Kind, options: Options, known: Knowledge) -> str:
    """Return the name of the method that measures best on a kind of problem."""
    if known.latent:
        return usable(METHODS[BEST_OF_LATENTS], known).name

    method = kind.method
    if known.predictor and kind.predicted_method:
        method = kind.predicted_method
    elif 1 < (options.steps or 1) <= FEW and not kind.predicted_method:
        method = kind.fast
    if options.fidelity is not None:
        method = _of_fidelity(kind, options.fidelity)
    if options.samples > 1 or refused(METHODS[method], options):
        method = kind.sampler
        # the best sampler may take fewer options than another that draws samples
        method = kind.unconditional if refused(METHODS[method], options) else method
    if not known.conditional and not METHODS[method].runs_without_condition(kind):
        method = kind.unconditional

    return usable(METHODS[method], known).name


def usable(method: Method, known: Knowledge) -> Method:
    """Return a method, or the one that takes its place for the operator or noise of a problem."""
    decomposed = known.svd or not method.needs_svd
    able = decomposed and (method.takes_noise_maps or not known.noise_map)
    return method if able else METHODS[method.stand_in]


def refused(method: Method, options: Options) -> dict[str, str]:
    """Return the given options that a method cannot take, each with its value for an error."""
    given = {
        "fidelity": (f"`fidelity`={options.fidelity}", options.fidelity not in (None, 1)),
        "start": ("`start`", options.start is not None),
        "steps": (f"`steps`={options.steps}", (options.steps or 1) != 1),
        "samples": (f"`samples`={options.samples}", options.samples > 1),
        "eta": (f"`eta`={options.eta}", options.eta is not None),
    }
    return {option: given[option][0] for option in method.refusals if given[option][1]}


def _of_fidelity(kind: Kind, fidelity: float) -> str:
    """Return the method that a fidelity asks for, which may be the posterior mean alone."""
    mean = METHODS["one-step"]
    known = kind.condition is not None or kind.name in mean.unconditional_kinds
    alone = known and fidelity == 1 == kind.mean_weights[1]
    return mean.name if alone else kind.sharpest


def with_fidelity(settings: Defaults, method: Method, kind: Kind, options: Options) -> Defaults:
    """Return the settings for a fidelity: a weight of the posterior mean, or a fraction of noise.

    A method that was asked for is blended with the posterior mean, from 0 to the whole.

    Raises:
        BadArgument: the fidelity is out of range, or η is given as well.
    """
    fidelity = options.fidelity
    assert fidelity is not None
    if not 0 <= fidelity <= 1:
        raise BadArgument(
            f"`fidelity`={fidelity:g}: must be from 0, the sharpest, to 1, the nearest to the "
            "original"
        )
    if "fidelity" in method.refusals:
        return settings
    if options.method != "auto":
        return settings._replace(mean_weight=fidelity)

    least, most = kind.mean_weights
    settings = settings._replace(mean_weight=least + (most - least) * fidelity)
    if kind.etas is None:
        return settings
    if options.eta is not None:
        raise BadArgument(
            f"`fidelity` and `eta`={options.eta:g}: for {kind.name}, the fidelity is a fraction of "
            "fresh noise; leave one of them out"
        )

    low, high = kind.etas
    eta = low + (high - low) * fidelity
    return settings._replace(eta=eta, noisy_eta=eta)


def of_few_calls(kind: Kind, options: Options, known: Knowledge) -> Options:
    """Return the options with the best method of at most 8 calls.

    Raises:
        BadArgument: an option that chooses method or calls itself.
    """
    chosen = {
        "method": options.method != "auto",
        "steps": options.steps is not None,
        "samples": options.samples > 1,
        "sampler": options.sampler is not None,
        "levels": options.levels is not None,
        "fidelity": options.fidelity is not None,
    }
    for name in (name for name, given in chosen.items() if given):
        raise BadArgument(f"`fast` and `{name}`: both say how to restore; leave one of them out")

    if not known.prior or known.latent:
        return replace(options, steps=kind.fast_steps, fast=False)

    method = METHODS[kind.fast]
    if not known.conditional and not method.runs_without_condition(kind):
        method = METHODS[kind.unconditional]
    method = usable(method, known)
    steps = None if "steps" in method.refusals else kind.fast_steps
    return replace(options, method=method.name, steps=steps, fast=False)
