"""Training: recipes, each equation against an independent statement, and whole tiny runs."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from support.processes import FORKS
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import pretrained
import restore.files
from restore.backbone import BackboneConfig, build_backbone
from restore.commands.ends import Signals
from restore.diffusion.bound import gaussian_kl
from restore.diffusion.denoiser import Condition, Denoiser, ModelConfig, build_denoiser
from restore.diffusion.schedule import NoiseSchedule
from restore.errors import BadArgument, FileAccess, UnreadableInput
from restore.runtime.devices import choose_device
from restore.training import learner, trainer
from restore.training.batches import Batch
from restore.training.checkpoint import BadWeights, load_state, write_model
from restore.training.ema import Averages
from restore.training.learner import Learner, TrainingDiverged, new_network
from restore.training.log import LOSS_COLUMNS, BinnedLosses, read_log
from restore.training.losses import (
    clean_estimate,
    discretised_log_likelihood,
    target,
    variational_term,
)
from restore.training.noise_levels import Draw, LossHistory
from restore.training.objective import Objective
from restore.training.optimiser import Muon, Optimisers, orthogonalised, rate_factor
from restore.training.processes import NOTED, Processes
from restore.training.pupil import Pupil
from restore.training.recipe import Recipe, default_model
from restore.training.recipe_checks import check_recipe
from restore.training.recipe_file import papers, parse_recipe, read_recipe, write_recipe
from restore.training.recipe_sections import ObjectiveRecipe, OptimiserRecipe, ScheduleRecipe
from restore.training.run import Progress, Summary
from restore.training.trainer import Options, train
from restore.training.weights import BALANCE_BINS, LevelBalance, noise_error_weight

FIXTURES = Path(__file__).parents[1] / "fixtures"
LINEAR = {"name": "linear"}
TINY = BackboneConfig(
    condition_channels=3,
    condition_map=True,
    channels=32,
    channel_multipliers=(1, 2),
    blocks=1,
    middle_attention=False,
    norm="rms",
    patch=2,
)
MODEL = ModelConfig(TINY, LINEAR, "v", condition_skip=True)
LEARNED = ModelConfig(replace(TINY, learned_variance=True), LINEAR, "epsilon")
SIZED = {"crop": 16, "batch": 4}
PLAIN = ObjectiveRecipe(
    levels="uniform",
    log_normal_uniform=0.0,
    high_fraction=0.0,
    noiseless_fraction=0.0,
    loss="l2",
    balance=False,
)


def recipe(**sections) -> Recipe:
    """Return a tiny recipe in float32 with some settings changed."""
    base = Recipe(model=MODEL, objective=PLAIN, optimiser=OptimiserRecipe("adamw"))
    given = {
        "data": SIZED,
        "run": {"mixed_precision": False, "log_steps": 2},
        "schedule": {"warmup_steps": 2},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values}
    return replace(
        base, **{name: replace(getattr(base, name), **values) for name, values in given.items()}
    )


class FakeBatches:
    """Smooth pictures from (step, size) alone; every second one is its own condition, dimmed."""

    skipped = ()

    def __init__(self, crop: int = 16, batch: int = 4, poison: int | None = None) -> None:
        self.crop = crop
        self.batch = batch
        self.poison = poison

    def with_size(self, crop: int, batch: int) -> FakeBatches:
        return FakeBatches(crop, batch, self.poison)

    def at(self, step: int, part: tuple[int, int] = (0, 1)) -> Batch:
        random = torch.Generator().manual_seed(1000 * self.crop + step)
        ramp = torch.linspace(-1, 1, self.crop)
        slope = torch.randn(self.batch, 3, 2, generator=random)
        clean = torch.tanh(
            slope[..., 0, None, None] * ramp + slope[..., 1, None, None] * ramp[:, None]
        )
        known = (
            (torch.arange(self.batch) % 2)
            .float()
            .reshape(-1, 1, 1, 1)
            .expand(-1, 1, self.crop, self.crop)
        )
        if step == self.poison:
            clean[1] = math.nan
        mine = slice(self.batch * part[0] // part[1], self.batch * (part[0] + 1) // part[1])
        return Batch(clean[mine], Condition((0.5 * clean * known)[mine], known[mine]))

    def stream(
        self,
        first_step: int = 0,
        *,
        workers: int = 0,
        part: tuple[int, int] = (0, 1),
        pinned: bool = False,
    ) -> Iterator[Batch]:
        step = first_step
        while True:
            yield self.at(step, part)
            step += 1


def run(
    out: Path, what: Recipe | None = None, batches: FakeBatches | None = None, **options
) -> Summary:
    keywords = {key: options.pop(key) for key in ("progress", "notice", "clock") if key in options}
    return train(
        Options(out, recipe=what, device="cpu", **options),
        batches=batches or FakeBatches(),
        **keywords,
    )


def interrupt_at(step: int, number: int = signal.SIGINT) -> Callable[[Progress], None]:
    def progress(now: Progress) -> None:
        if now.step == step:
            os.kill(os.getpid(), number)

    return progress


def weights_of(folder: Path) -> dict[str, Tensor]:
    state = load_state(folder)
    return {
        f"{part}:{name}": value
        for part in ("network", "averages", "optimiser", "objective")
        for name, value in getattr(state, part).items()
    }


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# Recipes


def test_a_written_recipe_reads_as_the_same() -> None:
    made = recipe(
        data={"larger_crops": ((0.5, 32),), "unconditional_fraction": 0.2},
        objective={"levels": "log-normal"},
        schedule={"minutes": 1.5},
        ema={"decays": (0.9,)},
    )
    assert parse_recipe(write_recipe(made)) == made


def test_a_partial_model_is_the_shipped_one_with_changes() -> None:
    shipped = default_model()
    changed = replace(shipped, backbone=replace(shipped.backbone, channels=32))

    model = parse_recipe("[model.backbone]\nchannels = 32\n[model.predictor]\n").model
    assert model == changed

    alone = parse_recipe("[model.backbone]\nchannels = 32\n").model
    assert alone == replace(changed, predictor=None, condition_picture="degraded")


def test_a_plain_ddpm_says_only_what_it_is() -> None:
    """What suits the default model alone does not come along."""
    made = parse_recipe(
        "[model]\nparameterization = 'epsilon'\n[model.backbone]\ncondition_channels = 0\n"
    )
    check_recipe(made)
    assert made.model is not None
    assert (made.model.condition_skip, made.model.one_step) == (False, "noise")
    assert made.model.backbone.condition_map is False
    assert (made.objective.noiseless_fraction, made.data.unconditional_fraction) == (0.0, 1.0)

    conditional = parse_recipe("[model]\nparameterization = 'epsilon'\n")
    check_recipe(conditional)
    assert conditional.objective.noiseless_fraction == 0.0
    assert conditional.data.unconditional_fraction == Recipe().data.unconditional_fraction


@pytest.mark.parametrize("name", papers())
def test_recipes_of_papers_are_whole(name: str) -> None:
    made = read_recipe(Path(name))
    check_recipe(made)
    assert made.model is not None
    assert (made.classifier is not None) is (name == "adm-classifier")
    assert made.model.parameterization == ("edm" if name == "edm" else "epsilon")
    assert made.schedule.minutes == 10
    assert made.model.backbone.learned_variance is (name in ("improved-ddpm", "npr-ddpm"))
    assert made.model.backbone.condition_channels == (3 if name == "sr3" else 0)
    assert parse_recipe(write_recipe(made)) == made


def test_an_unknown_recipe_names_the_known_ones(tmp_path) -> None:
    with pytest.raises(FileAccess, match="by name there are adm-classifier, ddpm, edm, i2sb"):
        read_recipe(tmp_path / "dpdm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimiser]\nrates = 1e-3", ["[optimiser] rates", "did you mean 'rate'"]),
        ("[optimizer]\nrate = 1e-3", ["[optimizer]", "did you mean 'optimiser'"]),
        ("[model.backbone]\nchanels = 3", ["[model.backbone] chanels", "did you mean 'channels'"]),
        (
            "[data.degradations]\nbicubik = 3",
            ["[data.degradations] bicubik", "did you mean 'bicubic'"],
        ),
        ("[data]\ncrop = 64.5", ["[data] crop = 64.5", "a whole number"]),
        ("[data]\ncrop = true", ["[data] crop = True", "a whole number"]),
        ("[data]\nbatch = 0", ["[data] batch = 0", "at least 1"]),
        ("[run]\ncompile = 1", ["[run] compile = 1", "true or false"]),
        (
            "[objective]\nlevels = 'normal'",
            ["levels = 'normal'", "one of uniform, log-normal, loss-aware"],
        ),
        ("[optimiser]\nbetas = [0.9]", ["betas = [0.9]", "a list of 2, each a number"]),
        (
            "[optimiser]\nbetas = [0.9, 1.0]",
            ["betas", "[0.9, 1.0]: must be between 0 and 0.999999"],
        ),
        ("[optimiser]\nrate = nan", ["rate = nan", "a number"]),
        ("[ema]\ndecays = []", ["[ema]", "one or more"]),
        ("[schedule]\nsteps = 3\nminutes = 2", ["[schedule]", "give one"]),
        ("[data]\nlarger_crops = [[0.5, 32]]", ["larger_crops", "rising"]),
        ("data = 3", ["[data] = 3", "a table"]),
        ("[data", ["not TOML"]),
    ],
)
def test_a_bad_recipe_is_refused_by_its_key(tmp_path, text: str, words: list[str]) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(BadArgument) as caught:
        read_recipe(path)
    assert all(word in str(caught.value) for word in ["my.toml", *words]), str(caught.value)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (recipe(data={"crop": 18}), "multiple of 4"),
        (recipe(data={"larger_crops": ((0.5, 30),)}), "crop 30"),
        (
            recipe(objective={"noiseless_fraction": 0.1}),
            "noiseless_fraction: must be 0",
        ),
        (
            replace(recipe(), model=replace(MODEL, one_step="zeros")),
            "noiseless_fraction: must be above 0",
        ),
        (replace(recipe(), model=replace(MODEL, time_scale=0.25)), "third-party networks"),
        (
            replace(recipe(), model=ModelConfig(BackboneConfig(channels=32), LINEAR)),
            "unconditional_fraction",
        ),
        (
            replace(recipe(), model=replace(MODEL, schedule={"name": "quadratic"})),
            "unknown noise schedule",
        ),
        (
            replace(
                recipe(), model=replace(MODEL, backbone=replace(TINY, channels=33, norm="group"))
            ),
            "[model]",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(made: Recipe, words: str) -> None:
    with pytest.raises(BadArgument, match=words.replace("[", r"\[")):
        check_recipe(made)


def test_larger_crops_keep_the_pixels_of_a_step() -> None:
    data = recipe(data={"crop": 16, "batch": 16, "larger_crops": ((0.5, 32), (0.8, 64))}).data
    assert [data.size(data.stage(p)) for p in (0, 0.49, 0.5, 0.79, 0.8, 1)] == [
        (16, 16),
        (16, 16),
        (32, 4),
        (32, 4),
        (64, 1),
        (64, 1),
    ]


# Noise levels


def objective(model: ModelConfig = MODEL, **settings) -> Objective:
    return Objective(model, replace(PLAIN, **settings))


def drawn(made: Objective, count: int, conditional: bool = False, seed: int = 0) -> Draw:
    return made.draw(torch.full((count,), conditional), torch.Generator().manual_seed(seed))


def test_uniform_levels_are_sr3s() -> None:
    """t is uniform, and γ between γ_t and γ_{t−1}."""
    made = objective()
    draw = drawn(made, 20000)
    edges = np.concatenate([[1.0], NoiseSchedule.named("linear").alphas_cumprod])
    t = draw.step.numpy()
    gamma = draw.gamma.double().numpy()
    within = (edges[t - 1] - gamma) / (edges[t - 1] - edges[t])
    assert stats.kstest(within, "uniform").pvalue > 1e-3
    assert stats.kstest((t - 1 + within) / 1000, "uniform").pvalue > 1e-3
    assert torch.equal(draw.weight, torch.ones(20000))


def test_log_normal_levels_are_normal_within_the_chain() -> None:
    draw = drawn(objective(levels="log-normal", log_normal_mean=-0.5, log_normal_std=2.0), 20000)
    gamma = draw.gamma.double().numpy()
    sigmas = NoiseSchedule.named("linear").sigmas
    low, high = np.log(sigmas[[0, -1]])
    truth = stats.truncnorm((low + 0.5) / 2, (high + 0.5) / 2, loc=-0.5, scale=2)
    assert stats.kstest(np.log((1 - gamma) / gamma) / 2, truth.cdf).pvalue > 1e-3
    edges = np.concatenate([[1.0], NoiseSchedule.named("linear").alphas_cumprod])
    t = draw.step.numpy()
    assert (edges[t] - 1e-6 <= gamma).all()
    assert (gamma <= edges[t - 1] + 1e-6).all()


def test_keys_from_before_they_were_renamed_are_read() -> None:
    text = write_recipe(recipe(objective={"noiseless_fraction": 0.2, "high_fraction": 0.1}))
    former = text
    for name in ("unconditional", "noiseless", "high"):
        before = "share_unconditional" if name == "unconditional" else f"{name}_share"
        assert f"{name}_fraction = " in former
        former = former.replace(f"{name}_fraction = ", f"{before} = ")
    assert parse_recipe(former) == parse_recipe(text)
    assert parse_recipe(former).objective.noiseless_fraction == 0.2


def test_a_share_of_log_normal_levels_is_uniform() -> None:
    made = objective(
        levels="log-normal", log_normal_mean=-1.0, log_normal_std=1e-3, log_normal_uniform=0.3
    )
    draw = drawn(made, 20000)
    log_sigma = torch.log((1 - draw.gamma) / draw.gamma) / 2
    elsewhere = (log_sigma + 1).abs() > 0.01
    assert float(elsewhere.float().mean()) == pytest.approx(0.3, abs=0.015)
    t = draw.step[elsewhere].double().numpy() - 0.5
    assert stats.kstest(t / 1000, "uniform").pvalue > 1e-3
    edges = torch.cat(
        [torch.ones(1), torch.from_numpy(NoiseSchedule.named("linear").alphas_cumprod).float()]
    )
    assert bool((edges[draw.step] - 1e-6 <= draw.gamma).all())
    assert bool((draw.gamma <= edges[draw.step - 1] + 1e-6).all())


@pytest.mark.parametrize("levels", ["uniform", "log-normal", "loss-aware"])
def test_a_learned_variance_gets_the_chains_own_levels(levels: str) -> None:
    draw = drawn(objective(LEARNED, levels=levels), 500)
    chain = torch.from_numpy(NoiseSchedule.named("linear").alphas_cumprod).float()
    assert torch.equal(draw.gamma, chain[draw.step - 1])


def test_loss_aware_probabilities_are_of_the_last_losses() -> None:
    history = LossHistory(4, 3)
    losses = {1: [9.0, 1.0, 2.0, 2.0], 2: [4.0, 4.0, 4.0], 3: [0.5, 0.5, 0.5, 8.0], 4: [1.0, 1.0]}
    for t, values in losses.items():
        history.learn(torch.full((len(values),), t), torch.tensor(values))
    assert history.probabilities().tolist() == [0.25] * 4  # the last step has two of three
    history.learn(torch.tensor([4]), torch.tensor([1.0]))
    size = np.array(
        [np.sqrt(np.mean(np.square(values[-3:]))) for values in ({**losses, 4: [1, 1, 1]}).values()]
    )
    assert history.probabilities().numpy() == pytest.approx(0.999 * size / size.sum() + 0.001 / 4)


def test_the_importance_sampled_loss_is_unbiased() -> None:
    made = objective(levels="loss-aware", loss_aware_history=1)
    loss = torch.linspace(0.1, 3, 1000) ** 2
    made.history.learn(torch.arange(1, 1001), loss)
    draws = [drawn(made, 100_000, seed=seed) for seed in range(2)]
    for draw in draws:
        hits = torch.bincount(draw.step - 1, minlength=1000)
        assert hits[900:].sum() > 20 * hits[:100].sum()
        estimates = draw.weight * loss[draw.step - 1]
        spread = float(estimates.std()) / len(estimates) ** 0.5
        assert float(estimates.mean()) == pytest.approx(float(loss.mean()), abs=4 * spread)
        assert spread < 0.02 * float(loss.mean())


def test_conditional_pictures_have_their_own_levels() -> None:
    made = objective(high_fraction=0.75, high_from=0.8, noiseless_fraction=0.5, levels="loss-aware")
    made.history.learn(torch.arange(1, 1001).repeat(10), torch.ones(10_000))
    draw = made.draw(torch.arange(8000) % 2 == 1, torch.Generator().manual_seed(0))
    assert not draw.elsewhere[::2].any()
    assert not draw.noiseless[::2].any()
    sent = draw.elsewhere & ~draw.noiseless
    assert float(draw.noiseless[1::2].float().mean()) == pytest.approx(0.5, abs=0.04)
    assert float(sent[1::2].float().mean()) == pytest.approx(0.75 * 0.5, abs=0.04)
    assert int(draw.step[sent].min()) == 801
    assert int(draw.step[sent].max()) == 1000
    lowest = torch.tensor(NoiseSchedule.named("linear").alphas_cumprod[-1]).float()
    assert torch.equal(draw.gamma[draw.noiseless], lowest.expand(int(draw.noiseless.sum())))


# Losses


class Answer(nn.Module):
    """A network with constant output, which records its inputs."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = nn.Parameter(output)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.asked = x, time
        return self.output


def batch_and_noise(count: int = 6) -> tuple[Batch, Tensor]:
    return FakeBatches(8, count).at(3), torch.randn(
        count, 3, 8, 8, generator=torch.Generator().manual_seed(2)
    )


@pytest.mark.parametrize("loss", ["l1", "l2"])
@pytest.mark.parametrize(
    ("parameterization", "skip", "time"),
    [
        ("epsilon", False, "step"),
        ("x0", False, "step"),
        ("v", False, "sqrt_alphas_cumprod"),
        ("v", True, "step"),
    ],
)
def test_the_loss_is_the_error_of_what_the_denoiser_says(
    parameterization: str, skip: bool, time: str, loss: str
) -> None:
    """Training and inference give the network the same input and read its output alike."""
    config = ModelConfig(TINY, LINEAR, parameterization, time, skip)
    (clean, condition, *_), noise = batch_and_noise()
    network = Answer(torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(5)))
    made = objective(config, loss=loss)
    draw = made.draw(torch.arange(6) % 2 == 1, torch.Generator().manual_seed(1))
    simple = made.terms(network, clean, condition, draw, noise).simple
    asked = network.asked

    gamma = draw.gamma[:, None, None, None]
    sigma = ((1 - gamma) / gamma).sqrt()
    found = Denoiser(network, config)(clean + sigma * noise, sigma, condition)
    torch.testing.assert_close(asked[0], network.asked[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(asked[1], network.asked[1], rtol=1e-4, atol=1e-2)
    said = {
        "epsilon": found.noise,
        "x0": found.clean,
        "v": gamma.sqrt() * found.noise - (1 - gamma).sqrt() * found.clean,
    }
    truth = {"epsilon": noise, "x0": clean, "v": gamma.sqrt() * noise - (1 - gamma).sqrt() * clean}
    error = said[parameterization] - truth[parameterization]
    expected = (error.abs() if loss == "l1" else error**2).flatten(1).mean(1)
    torch.testing.assert_close(simple, expected, rtol=2e-3, atol=1e-4)


def test_noiseless_pictures_are_shown_as_zeros_and_ask_for_the_clean_picture() -> None:
    (clean, condition, *_), noise = batch_and_noise()
    made = objective(noiseless_fraction=1.0)
    draw = made.draw(torch.ones(6, dtype=torch.bool), torch.Generator())
    network = Answer(torch.zeros(6, 3, 8, 8))
    made.terms(network, clean, condition, draw, noise)
    assert not network.asked[0][:, :3].any()
    found = Denoiser(network, MODEL)
    perfect = (1 - draw.gamma[0]).sqrt() * (condition.picture - clean)
    network.output.data = perfect
    assert float(made.terms(network, clean, condition, draw, noise).simple.detach().max()) < 1e-10
    sigma = float(((1 - draw.gamma[0]) / draw.gamma[0]).sqrt())
    torch.testing.assert_close(
        found(torch.zeros_like(clean), sigma, condition).clean, clean, rtol=1e-3, atol=1e-3
    )


def test_divergence_and_decoder_agree_with_torch_distributions() -> None:
    random = torch.Generator().manual_seed(0)
    m1, m2, l1, l2 = torch.randn(4, 50, generator=random).double()
    expected = kl_divergence(Normal(m1, (l1 / 2).exp()), Normal(m2, (l2 / 2).exp()))
    torch.testing.assert_close(gaussian_kl(m1, l1, m2, l2), expected)

    levels = 2 * torch.arange(256).double() / 255 - 1
    mean = torch.full_like(levels, 0.37)
    log_variance = torch.full_like(levels, -3.0)
    mass = discretised_log_likelihood(levels, mean, log_variance).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
    model = Normal(0.37, math.exp(-1.5))
    inner = model.cdf(levels + 1 / 255) - model.cdf(levels - 1 / 255)
    torch.testing.assert_close(mass[1:-1], inner[1:-1])
    assert float(mass[0]) == pytest.approx(float(model.cdf(levels[0] + 1 / 255)))


@pytest.mark.parametrize("t", [2, 3, 500, 1000])
def test_the_variational_term_is_the_divergence_from_bayes_rule(t: int) -> None:
    """q(x_{t−1} | x_t, x0) from the product of q(x_{t−1} | x0) and q(x_t | x_{t−1}); Σ from eq.
    15.
    """
    gammas = torch.cat(
        [torch.ones(1), torch.from_numpy(NoiseSchedule.named("linear").alphas_cumprod)]
    ).double()
    random = torch.Generator().manual_seed(t)
    clean, noisy, estimate = (torch.randn(2, 3, 4, 4, generator=random).double() for _ in range(3))
    output = 2 * torch.rand(2, 3, 4, 4, generator=random).double() - 1

    alpha = gammas[t] / gammas[t - 1]
    before = gammas[t - 1]

    def posterior(x0: Tensor) -> tuple[Tensor, Tensor]:
        precision = 1 / (1 - before) + alpha / (1 - alpha)
        return (
            before.sqrt() * x0 / (1 - before) + alpha.sqrt() * noisy / (1 - alpha)
        ) / precision, 1 / precision

    mean, variance = posterior(clean)
    v = (output + 1) / 2
    learned = (v * (1 - alpha).log() + (1 - v) * variance.log()).exp()
    expected = kl_divergence(
        Normal(mean, variance.sqrt()), Normal(posterior(estimate)[0], learned.sqrt())
    )
    found = variational_term(gammas, clean, noisy, estimate, output, torch.tensor([t, t]))
    torch.testing.assert_close(
        found, expected.flatten(1).mean(1) / math.log(2), rtol=1e-9, atol=1e-12
    )


def test_the_first_variational_term_is_the_decoder() -> None:
    gammas = torch.cat(
        [torch.ones(1), torch.from_numpy(NoiseSchedule.named("linear").alphas_cumprod)]
    ).double()
    clean = (
        2 * torch.randint(0, 256, (1, 3, 4, 4), generator=torch.Generator().manual_seed(0)) / 255
        - 1
    ).double()
    estimate = clean + 0.003
    found = variational_term(
        gammas, clean, clean + 0.01, estimate, torch.ones_like(clean), torch.tensor([1])
    )
    model = Normal(estimate, (1 - gammas[1]).sqrt())  # μ̃_1 = x0, Σ = β_1
    upper = torch.where(clean > 0.999, 1.0, model.cdf(clean + 1 / 255))
    lower = torch.where(clean < -0.999, 0.0, model.cdf(clean - 1 / 255))
    assert float(found) == pytest.approx(-float((upper - lower).log2().mean()), rel=1e-9)


def test_hybrid_loss_learns_the_variance_from_the_bound_alone() -> None:
    (clean, condition, *_), noise = batch_and_noise()
    made = objective(LEARNED, vlb_weight=0.01)
    network = Answer(0.1 * torch.randn(6, 6, 8, 8, generator=torch.Generator().manual_seed(5)))
    draw = made.draw(torch.zeros(6, dtype=torch.bool), torch.Generator().manual_seed(1))
    terms = made.terms(network, clean, condition, draw, noise)
    torch.testing.assert_close(made.total(terms), terms.simple + 0.01 * 1000 * terms.bound)
    (of_bound,) = torch.autograd.grad(terms.bound.sum(), network.output, retain_graph=True)
    (of_simple,) = torch.autograd.grad(terms.simple.sum(), network.output)
    assert not of_bound[:, :3].any()
    assert not of_simple[:, 3:].any()
    assert bool(of_bound[:, 3:].any())
    assert bool(of_simple[:, :3].any())


@pytest.mark.parametrize("model", [LEARNED, MODEL])
def test_the_bound_as_the_objective_trains_the_mean_too(model: ModelConfig) -> None:
    """T L_t in bits per dimension: of the learned variance, or of β_t."""
    (clean, condition, *_), noise = batch_and_noise()
    made = objective(model, weighting="bound", levels="uniform")
    channels = 6 if model is LEARNED else 3
    network = Answer(
        0.1 * torch.randn(6, channels, 8, 8, generator=torch.Generator().manual_seed(5))
    )
    draw = made.draw(torch.zeros(6, dtype=torch.bool), torch.Generator().manual_seed(1))
    assert torch.equal(draw.gamma, made.gammas[draw.step].float())
    terms = made.terms(network, clean, condition, draw, noise)
    total = made.total(terms)

    gamma = draw.gamma[:, None, None, None]
    noisy = gamma.sqrt() * clean + (1 - gamma).sqrt() * noise
    answer = network.output[:, :3].detach()
    if model.condition_skip:
        answer = answer - (1 - gamma).sqrt() * condition.picture
    estimate = clean_estimate(model.parameterization, answer, noisy, gamma)
    variance = network.output[:, 3:].detach() if model is LEARNED else torch.ones_like(clean)
    expected = 1000 * variational_term(made.gammas, clean, noisy, estimate, variance, draw.step)
    torch.testing.assert_close(total, expected)
    (slope,) = torch.autograd.grad(total.sum(), network.output)
    assert bool(slope[:, :3].any())
    assert bool(slope[:, 3:].any()) is (model is LEARNED)


def test_the_weight_of_the_bound_is_that_of_its_formula() -> None:
    """DDPM, eq. 12: β_t²/(2 σ_t² α_t (1 − ᾱ_t)) ‖ε − ε̂‖² with σ_t² = β_t, beside a constant."""
    (clean, condition, *_), noise = batch_and_noise()
    model = ModelConfig(TINY, LINEAR, "epsilon")
    made = objective(model, weighting="bound", levels="uniform")
    draw = made.draw(torch.zeros(6, dtype=torch.bool), torch.Generator().manual_seed(1))
    totals, simples = [], []
    for size in (0.5, 1.0):
        terms = made.terms(Answer(noise + size), clean, condition, draw, noise)
        totals.append(made.total(terms).detach())
        simples.append(terms.simple.detach())
    now, before = made.gammas[draw.step], made.gammas[draw.step - 1]
    beta = 1 - now / before
    weight = (beta / (2 * (1 - beta) * (1 - now)) / math.log(2)).float()
    torch.testing.assert_close(
        totals[1] - totals[0], 1000 * weight * (simples[1] - simples[0]), rtol=1e-2, atol=1e-5
    )


@pytest.mark.parametrize("parameterization", ["epsilon", "x0", "v", "edm"])
def test_the_likelihood_weighting_is_the_integral_over_log_sigma(parameterization: str) -> None:
    """Any levels estimate ∫ ‖ε − ε̂‖² d log σ / (log σ_T − log σ_1), for any network output."""
    model = ModelConfig(TINY, LINEAR, parameterization)
    log_sigmas = np.linspace(*np.log(NoiseSchedule.named("linear").sigmas[[0, -1]]), 100_001)
    gammas = 1 / (1 + np.exp(2 * log_sigmas))
    # an error of 1 of the network's output is this squared error of the noise
    of_noise = {"epsilon": 1 + 0 * gammas, "x0": gammas / (1 - gammas), "v": gammas}
    of_noise["edm"] = 0.25 / ((1 - gammas) / gammas + 0.25)
    exact = of_noise[parameterization].mean()

    for levels in ("log-uniform", "uniform"):
        made = objective(model, weighting="likelihood", levels=levels)
        draw = drawn(made, 400_000)
        estimates = draw.weight * noise_error_weight(parameterization, draw.gamma)
        spread = float(estimates.std()) / len(estimates) ** 0.5
        assert float(estimates.mean()) == pytest.approx(exact, abs=4 * spread)
        assert spread < 0.05 * exact


def test_the_likelihood_weighting_weighs_the_loss() -> None:
    (clean, condition, *_), noise = batch_and_noise()
    made = objective(MODEL, weighting="likelihood", levels="log-uniform")
    plain = objective(MODEL, levels="log-uniform")
    network = Answer(torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(5)))
    draw = made.draw(torch.zeros(6, dtype=torch.bool), torch.Generator().manual_seed(1))
    found, simple = (m.terms(network, clean, condition, draw, noise).simple for m in (made, plain))
    torch.testing.assert_close(found, draw.gamma * simple)
    assert bool((draw.weight == 1).all())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weighting": "bound", "levels": "log-normal"}, "levels = 'log-normal': must be uniform"),
        ({"weighting": "likelihood", "levels": "loss-aware"}, "must be log-uniform or uniform"),
        ({"weighting": "bound", "loss": "l1"}, "loss = 'l1': must be 'l2'"),
        ({"weighting": "bound", "balance": True}, "balance: must be false"),
        ({"weighting": "bound", "high_fraction": 0.1}, "high_fraction: must be 0"),
    ],
)
def test_weightings_that_do_not_go_together_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        replace(PLAIN, **settings).check_weighting(False)
    with pytest.raises(BadArgument, match="has a learned variance"):
        replace(PLAIN, weighting="likelihood").check_weighting(True)


def test_balanced_levels_weigh_alike_within_the_limit() -> None:
    schedule = NoiseSchedule.named("linear")
    balance = LevelBalance(schedule, limit=4.0)
    gamma = torch.from_numpy(schedule.alphas_cumprod[[5, 300, 900]]).float()
    loss = torch.tensor([1.0, 0.5, 0.001])
    conditional = torch.zeros(3, dtype=torch.bool)
    assert torch.equal(balance.weights(gamma, conditional), torch.ones(3))
    for _ in range(3):
        balance.learn(gamma, conditional, loss)
    found = balance.weights(gamma, conditional)
    assert found.tolist() == pytest.approx([1.501 / 3, 1.501 / 3 / 0.5, 4.0], rel=1e-5)
    assert torch.equal(balance.weights(gamma, ~conditional), torch.ones(3))  # no such data yet


def test_balance_follows_the_loss() -> None:
    balance = LevelBalance(NoiseSchedule.named("linear"), limit=100.0)
    gamma = torch.full((50,), 0.5)
    conditional = torch.ones(50, dtype=torch.bool)
    for value in [8.0, *[2.0] * 40]:
        balance.learn(gamma, conditional, torch.full((50,), value))
    means = (balance.sums / balance.counts.clamp_min(1e-12))[1]
    assert int((means > 0).sum()) == 1
    assert float(means.max()) == pytest.approx(2.0, abs=1e-6)
    assert balance.counts.shape == (2, BALANCE_BINS)


# Averages and optimisers


def test_averages_equal_a_plain_loop() -> None:
    weight = torch.zeros(3)
    made = Averages({"w": weight}, (0.5, 0.999))
    expected = {0.5: np.zeros(3), 0.999: np.zeros(3)}
    for n in range(1, 40):
        weight.copy_(torch.tensor([n, n * n, 1.0]))
        made.update(n)
        for d, e in expected.items():
            kept = min(d, n / (9 + n))
            e[:] = kept * e + (1 - kept) * weight.numpy()
    for d, e in expected.items():
        assert made.averages[d]["w"].numpy() == pytest.approx(e, rel=1e-5)


def test_averaging_every_few_steps_keeps_the_decay() -> None:
    """While the weights stand still, one update for eight steps equals eight updates."""
    weight = torch.ones(1)
    often = Averages({"w": weight}, (0.99,))
    seldom = Averages({"w": weight}, (0.99,), every=8)
    for n in range(1, 2001):
        if n % 8 == 1:
            weight.fill_(math.sin(n))
        often.update(n)
        seldom.update(n)
    assert float(seldom.averages[0.99]["w"]) == pytest.approx(
        float(often.averages[0.99]["w"]), abs=1e-5
    )


def test_a_young_average_has_forgotten_the_random_start() -> None:
    weight = torch.full((1,), 1e6)
    made = Averages({"w": weight}, (0.9999,))
    weight.fill_(1.0)
    for n in range(1, 101):
        made.update(n)
    assert float(made.averages[0.9999]["w"]) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (3, 8, 8)])
def test_newton_schulz_makes_orthogonal(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrices, 5)
    singular = torch.linalg.svdvals(found)
    assert float(singular.min()) > 0.6
    assert float(singular.max()) < 1.25
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    likeness = torch.nn.functional.cosine_similarity(found.flatten(), (u @ vh).flatten(), dim=0)
    assert float(likeness) > 0.97
    assert not orthogonalised(torch.zeros(3, 4)).any()


def test_newton_schulz_in_bfloat16_is_about_the_same() -> None:
    x = torch.randn(2, 12, 300, generator=torch.Generator().manual_seed(0))
    exact = orthogonalised(x, 4)
    rough = orthogonalised(x, 4, torch.bfloat16).float()
    assert float((exact - rough).norm() / exact.norm()) < 0.05


def test_muon_steps_along_the_orthogonal_momentum() -> None:
    random = torch.Generator().manual_seed(1)
    weights = [nn.Parameter(torch.randn(8, 4, 3, 3, generator=random)) for _ in range(2)]
    before = [w.detach().clone() for w in weights]
    momenta = [torch.zeros(8, 36) for _ in weights]
    optimiser = Muon(weights, lr=0.1, momentum=0.9, weight_decay=0.5, iterations=5)
    for _ in range(3):
        for i, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=random)
            gradient = weight.grad.flatten(1)
            momenta[i] = 0.9 * momenta[i] + gradient
            direction = orthogonalised(gradient + 0.9 * momenta[i], 5).reshape(weight.shape)
            before[i] = before[i] * (1 - 0.1 * 0.5) - 0.1 * 0.2 * math.sqrt(36) * direction
        optimiser.step()
        for weight, expected in zip(weights, before, strict=True):
            torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-5)


def test_muon_takes_the_hidden_convolutions_and_adamw_the_rest() -> None:
    network = build_backbone(replace(TINY, middle_attention=True))
    made = Optimisers(network, OptimiserRecipe(kind="muon", weight_decay=0.1))
    (adam_names, adam), (muon_names, _) = made.parts
    assert sorted(adam_names + muon_names) == sorted(name for name, _ in network.named_parameters())
    shapes = {name: p.ndim for name, p in network.named_parameters()}
    assert all(shapes[name] > 2 for name in muon_names)
    assert {n for n in adam_names if shapes[n] > 2} == {"input_blocks.0.0.weight", "out.2.weight"}
    assert "middle_block.1.qkv.weight" in muon_names
    kinds = {
        p.ndim >= 2: group["weight_decay"] for group in adam.param_groups for p in group["params"]
    }
    assert kinds == {True: 0.1, False: 0.0}


def test_the_rate_warms_up_holds_and_ends_at_exactly_zero() -> None:
    schedule = ScheduleRecipe(warmup_steps=10, cooldown=0.25)
    assert rate_factor(0, 0.0, schedule) == pytest.approx(0.1)
    assert rate_factor(9, 0.09, schedule) == 1
    assert rate_factor(700, 0.7, schedule) == 1
    assert rate_factor(875, 0.875, schedule) == pytest.approx(0.5)
    assert rate_factor(1000, 1.0, schedule) == 0
    assert rate_factor(5, 1.0, ScheduleRecipe(warmup_steps=0, cooldown=0.0)) == 1


# Runs


def fixed_loss(network: nn.Module) -> float:
    """Return the loss of 64 pictures that are not trained on, at fixed levels and noise."""
    clean, condition, *_ = FakeBatches(16, 64).at(12345)
    made = objective()
    random = torch.Generator().manual_seed(9)
    draw = made.draw(torch.arange(64) % 2 == 1, random)
    noise = torch.randn(clean.shape, generator=random)
    with torch.no_grad():
        return float(made.terms(network, clean, condition, draw, noise).simple.mean())


@pytest.mark.parametrize(("kind", "rate", "share"), [("adamw", 1e-3, 0.87), ("muon", 3e-3, 0.75)])
def test_a_short_run_lowers_the_loss(tmp_path, kind: str, rate: float, share: float) -> None:
    network = new_network(MODEL.backbone, 0)
    before = fixed_loss(network)
    run(tmp_path, recipe(optimiser={"kind": kind, "rate": rate}, data={"batch": 8}), steps=60)
    network.load_state_dict(load_state(tmp_path).network)
    assert fixed_loss(network) < share * before


def test_a_run_leaves_everything(tmp_path) -> None:
    notices: list[str] = []
    steps: list[Progress] = []
    made = recipe(optimiser={"rate": 3e-3}, run={"log_steps": 10}, ema={"every": 1})
    done = run(tmp_path / "run", made, steps=20, notice=notices.append, progress=steps.append)
    rows = read_log(tmp_path / "run" / "log.csv")
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 2
    assert done.loss == pytest.approx(losses[-1], rel=1e-4)
    assert (done.steps, len(steps), steps[-1].step, steps[-1].steps) == (20, 20, 20, 20)
    assert rows[-1]["psnr 25"] == pytest.approx(done.quality["psnr 25"], rel=1e-4)
    assert set(rows[0]) & set(LOSS_COLUMNS)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names >= {
        "recipe.toml",
        "log.csv",
        "samples.png",
        "checkpoint.safetensors",
        "model.safetensors",
        "model.json",
    }
    assert "optimiser-00000020.safetensors" in names
    assert read_recipe(tmp_path / "run" / "recipe.toml") == made.with_length(20, None)

    checkpoint = pretrained.load(str(done.model))
    denoise = build_denoiser(ModelConfig.from_dict(checkpoint.config), checkpoint.state)
    assert denoise.config == MODEL
    average = load_state(tmp_path / "run").averages
    for name, value in checkpoint.state.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, average[f"0.9997/{name}"].half())


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path) -> None:
    """Runs equal bit for bit, with everything on that has a memory, whatever the signal.

    These are Muon, the loss history, the balance, the averages, crops and dropout.
    """
    made = recipe(
        objective={
            "levels": "loss-aware",
            "loss_aware_history": 1,
            "balance": True,
            "high_fraction": 0.3,
            "noiseless_fraction": 0.2,
        },
        optimiser={"kind": "muon", "rate": 3e-3},
        ema={"decays": (0.9, 0.99), "every": 3},
        data={"larger_crops": ((0.6, 32),)},
    )
    chain = {"name": "linear", "timesteps": 8}
    made = replace(
        made, model=ModelConfig(replace(TINY, dropout=0.1), chain, "v", one_step="zeros")
    )
    run(tmp_path / "whole", made, steps=16)
    for stop, number in ((5, signal.SIGINT), (11, signal.SIGTERM)):
        with pytest.raises(KeyboardInterrupt):
            run(
                tmp_path / "parts",
                made if stop == 5 else None,
                steps=16,
                resume=stop != 5,
                progress=interrupt_at(stop, number),
            )
        assert load_state(tmp_path / "parts").step == stop
    run(tmp_path / "parts", resume=True)
    whole = weights_of(tmp_path / "whole")
    parts = weights_of(tmp_path / "parts")
    assert_same(whole, parts)
    assert any(name.endswith("/momentum") for name in whole)
    assert int(whole["objective:history.counts"].sum()) > 0
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "parts")]
    assert [(r["step"], r.get("loss"), r.get("gradient")) for r in logs[0]] == [
        (r["step"], r.get("loss"), r.get("gradient")) for r in logs[1]
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", NOTED)
def test_the_command_learns_which_signal_ended_a_run(tmp_path, number: int) -> None:
    with Signals() as signals, pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", recipe(), steps=3, progress=interrupt_at(1, number))
    assert signals.exit_code == 128 + number
    assert load_state(tmp_path / "run").step == 1


def test_memory_matters_to_the_comparison(tmp_path) -> None:
    """Another seed makes another run, and so does resuming without the optimiser."""
    run(tmp_path / "a", recipe(), steps=3)
    run(tmp_path / "b", recipe(run={"seed": 1}), steps=3)
    with pytest.raises(AssertionError):
        assert_same(weights_of(tmp_path / "a"), weights_of(tmp_path / "b"))


def shared_run(out: Path) -> None:
    """Train, in each process of a group or in a single one."""
    made = recipe(objective={"levels": "loss-aware", "loss_aware_history": 1, "balance": True})
    made = replace(made, model=replace(MODEL, schedule={"name": "linear", "timesteps": 8}))
    run(out, made, steps=6)


def as_torchrun_starts(environment: dict[str, str], out: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    shared_run(out)


def test_two_processes_equal_one(tmp_path) -> None:
    """Processes as torchrun starts them equal one, up to the order of floating-point additions."""
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(29500 + os.getpid() % 2000),
    }
    started = []
    for rank in ("0", "1"):
        place = {**common, "RANK": rank, "LOCAL_RANK": rank}
        started.append(FORKS.Process(target=as_torchrun_starts, args=(place, tmp_path / "two")))
        started[-1].start()
    try:
        shared_run(tmp_path / "one")
        for process in started:
            process.join(100)
            assert process.exitcode == 0
    finally:
        for process in started:
            process.kill()
    one = load_state(tmp_path / "one")
    two = load_state(tmp_path / "two")
    for name, value in one.network.items():
        torch.testing.assert_close(two.network[name], value, rtol=1e-3, atol=2e-5)
    assert torch.equal(one.objective["history.counts"], two.objective["history.counts"])
    torch.testing.assert_close(
        one.objective["history.losses"], two.objective["history.losses"], rtol=1e-3, atol=1e-5
    )


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path, monkeypatch) -> None:
    with pytest.raises(BadArgument, match="multiple of 3 processes"):
        trainer._check_parts(recipe(), 3)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch) -> None:
    notices: list[str] = []
    fsync = os.fsync
    run(tmp_path, recipe(run={"checkpoint_minutes": 0.0}, schedule={"cooldown": 0.0}), steps=4)
    good = weights_of(tmp_path)
    model = (tmp_path / "model.safetensors").read_bytes()
    calls = []

    def full(file: int) -> None:
        calls.append(file)
        if len(calls) > 4:  # the recipe and the log are still written, with their folder
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    monkeypatch.setattr(restore.files.os, "fsync", full)
    with pytest.raises(FileAccess, match="No space left"):
        run(tmp_path, resume=True, steps=8, notice=notices.append)
    monkeypatch.undo()
    assert any("step 5: not everything was saved, training goes on" in text for text in notices)
    assert load_state(tmp_path).step == 4
    assert_same(weights_of(tmp_path), good)
    assert (tmp_path / "model.safetensors").read_bytes() == model
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]
    assert len(list(tmp_path.glob("optimiser-*"))) == 1
    assert run(tmp_path, resume=True, steps=8).steps == 8


def test_a_kill_between_the_two_files_leaves_the_last_good_pair(tmp_path, monkeypatch) -> None:
    run(tmp_path, recipe(schedule={"cooldown": 0.0}), steps=2)
    good = weights_of(tmp_path)
    (tmp_path / "optimiser-00000003.safetensors").write_bytes(b"half")
    assert_same(weights_of(tmp_path), good)
    assert run(tmp_path, resume=True, steps=3).steps == 3
    assert len(list(tmp_path.glob("optimiser-*"))) == 1


def test_a_non_finite_loss_stops_with_the_last_good_state(tmp_path) -> None:
    made = recipe(schedule={"cooldown": 0.0}, run={"checkpoint_minutes": 0.0})
    with pytest.raises(
        TrainingDiverged, match=r"step 3: .*1 of 4 pictures.*picture 1 of the batch, conditional"
    ) as e:
        run(tmp_path / "run", made, FakeBatches(poison=3), steps=6)
    assert "state after step 3" in str(e.value)
    run(tmp_path / "good", made, steps=3)
    assert_same(weights_of(tmp_path / "good"), weights_of(tmp_path / "run"))


def test_non_finite_at_once_still_leaves_a_state(tmp_path) -> None:
    with pytest.raises(TrainingDiverged, match="step 0"):
        run(tmp_path, recipe(), FakeBatches(poison=0), steps=6)
    assert load_state(tmp_path).step == 0
    assert pretrained.load(str(tmp_path / "model.safetensors"))


def test_a_non_finite_gradient_names_its_weight(tmp_path, monkeypatch) -> None:
    def blow_up(self: Learner, pupil: Pupil) -> float:
        dict(pupil.network.named_parameters())["out.2.bias"].grad[0] = math.inf
        return clipped(self, pupil)

    clipped = Learner._clipped_norm
    monkeypatch.setattr(Learner, "_clipped_norm", blow_up)
    with pytest.raises(TrainingDiverged, match=r"step 0: the gradient of out\.2\.bias"):
        run(tmp_path, recipe(optimiser={"gradient_norm": 0.0}), steps=2)


def test_a_run_by_minutes_follows_training_time(tmp_path) -> None:
    """Each reading of the clock is half a second later; time between two runs does not count."""

    def ticking(start: float) -> Callable[[], float]:
        now = [start]

        def clock() -> float:
            now[0] += 0.5
            return now[0]

        return clock

    made = recipe(
        run={"log_steps": 1, "checkpoint_minutes": 9.0},
        schedule={"warmup_steps": 0, "cooldown": 0.5},
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, made, minutes=0.5, clock=ticking(0), progress=interrupt_at(6))
    half = load_state(tmp_path).elapsed
    assert 5 < half < 25
    done = run(tmp_path, resume=True, clock=ticking(1e6))
    assert 30 <= done.seconds < 33
    rates = [row["rate"] for row in read_log(tmp_path / "log.csv") if "rate" in row]
    shares = [row["share"] for row in read_log(tmp_path / "log.csv") if "rate" in row]
    assert shares == sorted(shares)
    assert rates == pytest.approx([1e-3 * min(1, 2 * (1 - share)) for share in shares], rel=1e-3)
    assert rates[-1] < 0.2 * rates[0]


def test_a_longer_run_goes_on_from_before_the_cool_down(tmp_path) -> None:
    made = recipe(schedule={"cooldown": 0.5})
    run(tmp_path / "short", made, steps=8)
    assert load_state(tmp_path / "short" / "before-cooldown").step == 4
    run(tmp_path / "short", resume=True, steps=16)
    run(tmp_path / "long", made, steps=16)
    assert_same(weights_of(tmp_path / "short"), weights_of(tmp_path / "long"))


def test_a_run_folder_of_another_recipe_is_refused(tmp_path) -> None:
    run(tmp_path, recipe(), steps=2)
    wider = replace(recipe(), model=replace(MODEL, backbone=replace(TINY, channels=64)))
    with pytest.raises(BadArgument, match=r"model\.backbone\.channels: 32 \| 64"):
        run(tmp_path, wider, resume=True, steps=2)
    with pytest.raises(BadArgument, match=r"optimiser\.rate: 0\.001 \| 0\.5"):
        run(tmp_path, recipe(optimiser={"rate": 0.5}), resume=True)
    with pytest.raises(FileAccess, match="a run is here already"):
        run(tmp_path, recipe(), steps=2)
    with pytest.raises(BadArgument, match="`resume` and `init`"):
        run(tmp_path, resume=True, init="default")
    with pytest.raises(FileAccess, match="to resume from"):
        run(tmp_path / "none", resume=True)
    assert run(tmp_path, recipe(), resume=True, steps=3).steps == 3


def test_a_damaged_checkpoint_is_said_to_be(tmp_path) -> None:
    run(tmp_path, recipe(), steps=2)
    (beside,) = tmp_path.glob("optimiser-*")
    beside.rename(tmp_path / "gone")
    with pytest.raises(FileAccess, match=r"optimiser-00000002\.safetensors: missing"):
        run(tmp_path, resume=True)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(UnreadableInput, match="not a readable checkpoint"):
        run(tmp_path, resume=True)
    write_model(MODEL, {"w": torch.zeros(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(UnreadableInput, match="not a checkpoint of a training run"):
        run(tmp_path, resume=True)


def test_init_starts_from_given_weights(tmp_path) -> None:
    first = run(tmp_path / "first", recipe(optimiser={"rate": 1e-2}), steps=6)
    still = recipe(optimiser={"rate": 0.0}, run={"seed": 5})
    again = run(tmp_path / "again", replace(still, model=None), steps=1, init=str(first.model))
    assert_same(
        dict(pretrained.load(str(first.model)).state), dict(pretrained.load(str(again.model)).state)
    )
    assert load_state(tmp_path / "again").recipe.model == MODEL
    with pytest.raises(BadArgument, match=r"another model.*backbone\.channels: 32 \| 64") as caught:
        run(tmp_path / "other", recipe(), steps=1, init="default")
    assert "…" in str(caught.value) or ";" in str(caught.value)
    with pytest.raises(UnreadableInput, match="no weights"):
        run(tmp_path / "other", recipe(), steps=1, init="missing.safetensors")
    write_model(MODEL, {"w": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(UnreadableInput, match="do not fit"):
        run(tmp_path / "other", recipe(), steps=1, init=str(tmp_path / "odd.safetensors"))
    assert not (tmp_path / "other").exists()


def test_a_length_is_needed_and_one_only(tmp_path) -> None:
    with pytest.raises(BadArgument, match="`minutes` or `steps`"):
        run(tmp_path, recipe())
    with pytest.raises(BadArgument, match="give one"):
        run(tmp_path, recipe(), steps=1, minutes=1.0)
    with pytest.raises(BadArgument, match=r"steps = 0: must be at least 1"):
        run(tmp_path, recipe(), steps=0)
    with pytest.raises(BadArgument, match="`data` is missing"):
        train(Options(tmp_path, recipe=recipe(), steps=1, device="cpu"))


def test_real_pictures_validation_and_mixed_precision(tmp_path, monkeypatch) -> None:
    """In bfloat16 the weights, their averages and the losses stay float32."""
    monkeypatch.setattr(learner, "network_dtype", lambda device: torch.bfloat16)
    made = replace(recipe(run={"mixed_precision": True}, optimiser={"kind": "muon"}), model=MODEL)
    crops = torch.zeros(2, 3, 16, 16)
    monkeypatch.setattr(trainer, "centre_crops", lambda folder, side: crops)
    options = Options(tmp_path, FIXTURES, made, steps=4, device="cpu", validation=FIXTURES)
    done = train(options)
    assert math.isfinite(done.loss)
    assert {v.dtype for v in load_state(tmp_path).network.values()} == {torch.float32}
    assert {v.dtype for v in load_state(tmp_path).averages.values()} == {torch.float32}
    assert set(done.quality) == {"psnr 15", "psnr 25", "psnr 50", "psnr x4"}


def test_learned_variance_trains(tmp_path) -> None:
    made = replace(recipe(optimiser={"rate": 3e-3}), model=LEARNED)
    assert math.isfinite(run(tmp_path, made, steps=4).loss)
    assert bool(
        load_state(tmp_path).network["out.2.weight"][12:].any()
    )  # 2 × 2 pixels of 3 channels before them


@pytest.mark.slow
def test_a_compiled_network_trains_alike(tmp_path) -> None:
    plain = run(tmp_path / "plain", recipe(), steps=4)
    compiled = run(tmp_path / "compiled", recipe(run={"compile": True}), steps=4)
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_kernels_launched_as_a_graph_train_alike() -> None:
    def losses(compiled: bool) -> list[float]:
        learns = Learner(recipe(run={"compile": compiled}), Processes(0, 1, choose_device("cuda")))
        return [
            float(learns.learn(FakeBatches().at(step), fraction=0.1).losses.mean())
            for step in range(6)
        ]

    assert losses(compiled=True) == pytest.approx(losses(compiled=False), rel=1e-3)


def test_weights_beyond_float16_are_not_exported(tmp_path) -> None:
    with pytest.raises(BadWeights, match="w not finite in float16"):
        write_model(MODEL, {"w": torch.tensor([1e6])}, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_tensorboard_gets_the_log_where_it_is_installed(tmp_path, monkeypatch) -> None:
    scalars: list[tuple] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            scalars.append((folder, purge_step))

        def add_scalar(self, *scalar) -> None:
            scalars.append(scalar)

        def close(self) -> None:
            scalars.append(("closed",))

    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter)
    )
    notices: list[str] = []
    done = run(tmp_path, recipe(), steps=2, notice=notices.append)
    assert scalars[0] == (str(tmp_path / "tensorboard"), None)
    assert ("loss", pytest.approx(done.loss), 2) in scalars
    assert ("psnr/25", done.quality["psnr 25"], 2) in scalars
    assert scalars[-1] == ("closed",)
    assert not notices
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(tmp_path, resume=True, steps=3, notice=notices.append)
    assert notices == ["no TensorBoard files: tensorboard is not installed"]


def test_skipped_pictures_are_told(tmp_path) -> None:
    """Unreadable pictures are named, and those too small for the crops of a later stage."""
    data = tmp_path / "data"
    data.mkdir()
    for name, side in (("small", 24), ("large", 48)):
        Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(data / f"{name}.png")
    (data / "broken.png").write_bytes(b"not a picture")
    notices: list[str] = []
    made = recipe(data={"larger_crops": ((0.5, 32),)}, schedule={"cooldown": 0.0})
    train(Options(tmp_path / "run", data, made, steps=2, device="cpu"), notice=notices.append)
    assert notices[0].startswith("1 picture(s) skipped: ")
    assert "broken.png" in notices[0]
    assert (
        notices[1] == "1 more picture(s) smaller than the later crops of 32 pixels, skipped there"
    )


def test_losses_are_logged_by_noise_level() -> None:
    bins = BinnedLosses()
    sigma = torch.tensor([0.01, 0.1, 0.5, 2.0, 50.0, 0.01, 50.0])
    bins.add(1 / (1 + sigma**2), torch.tensor([0, 0, 0, 0, 0, 1, 1]).bool(), torch.arange(1.0, 8.0))
    bins.add(
        1 / (1 + sigma**2), torch.tensor([0, 0, 0, 0, 0, 1, 1]).bool(), torch.arange(3.0, 10.0)
    )
    expected = dict(
        zip(LOSS_COLUMNS, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, None, None, None, 8.0], strict=True)
    )
    assert bins.means() == {name: value for name, value in expected.items() if value is not None}


def test_targets_of_the_papers() -> None:
    clean = torch.tensor(0.6)
    noise = torch.tensor(-1.5)
    gamma = torch.tensor(0.64)
    assert float(target("v", clean, noise, gamma)) == pytest.approx(0.8 * -1.5 - 0.6 * 0.6)
    assert (
        float(target("x0", clean, noise, gamma)),
        float(target("epsilon", clean, noise, gamma)),
    ) == pytest.approx((0.6, -1.5))


def test_the_default_recipe_can_be_written_and_used() -> None:
    assert parse_recipe(write_recipe(Recipe())) == Recipe()
    check_recipe(Recipe())
