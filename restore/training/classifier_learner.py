"""The learner of a classifier of noisy pictures."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from restore.backbone import Backbone, BackboneConfig
from restore.backbone.classifier import NoisyClassifier
from restore.diffusion.seeds import seed_of
from restore.training.batches import Batch
from restore.training.learner import Learner, Step, seeded, white_noise


class ClassifierLearner(Learner):
    """A classifier with its optimiser and averages; see `Learner` for the rest.

    A step minimises the cross-entropy of the classes given noisy pictures (Dhariwal, Nichol 2021,
    arXiv 2105.05233, section 4.1), at the noise levels of the recipe's objective.
    """

    def _new_network(self, backbone: BackboneConfig) -> Backbone:
        config = self.recipe.classifier_config
        assert config is not None
        return seeded(lambda: NoisyClassifier(config), self.recipe.run.seed)

    def _learn_denoiser(self, batch: Batch, fraction: float) -> Step:
        processes = self.processes
        clean = batch.clean
        labels = batch.labels
        assert labels is not None
        unconditional = torch.zeros(len(processes.gather(labels)), dtype=torch.bool)
        mine = processes.share(len(unconditional))
        draw = self.objective.draw(unconditional, self._random(0))
        noise = white_noise(
            (len(unconditional), *clean.shape[1:]), self._random(1, processes.device)
        )[mine]
        if self.model.backbone.dropout:
            torch.manual_seed(seed_of(self.recipe.run.seed, self.step, 2 + processes.rank))

        own = draw.part(mine).to(processes.device)
        gamma = own.gamma[:, None, None, None]
        noisy = gamma.sqrt() * clean + (1 - gamma).sqrt() * noise
        logits = self._run(noisy, self.objective.time_of(own.gamma)).float()
        losses = F.cross_entropy(logits, labels, reduction="none")
        (own.weight * losses).mean().backward()

        seen = processes.gather(losses.detach())
        hits = processes.gather((logits.argmax(dim=1) == labels).to(torch.uint8)).bool()
        self._check_losses(seen, draw, unconditional)
        gradient, rate = self._stepped(self.pupil, fraction)
        self.objective.learn(draw, unconditional, seen)

        return Step(seen, draw.gamma, unconditional, gradient, rate, hits)
