"""A recipe: everything that decides what a training run learns, as dataclasses.

What it leaves out has the defaults of `restore.training.recipe_sections`; whether its sections fit
together says `restore.training.recipe_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from functools import cache
from typing import Any

import pretrained
from pretrained.classifier_description import ClassifierConfig
from pretrained.tables import read_json
from restore.diffusion.denoiser import ModelConfig
from restore.errors import BadArgument
from restore.training.batches import PredictorData
from restore.training.classifier_recipe import ClassifierRecipe
from restore.training.recipe_sections import (
    DataRecipe,
    EmaRecipe,
    ObjectiveRecipe,
    OptimiserRecipe,
    PredictorRecipe,
    RunRecipe,
    ScheduleRecipe,
)
from restore.training.rounds import DistillationRecipe
from restore.training.sections import section_of


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    Attributes:
        model: Description of the model; None takes that of ``--init`` or of the default model.
        data: Training pictures.
        objective: What is minimised; a distillation uses ``noiseless_fraction`` alone.
        optimiser: The optimiser.
        schedule: Length and learning rate.
        ema: Averages of the weights.
        run: Settings of the machine, the log and the random numbers.
        distillation: Rounds of a distillation; None if the run does not distil.
        predictor: How the predictor learns.
        classifier: The classifier of noisy pictures that is trained instead of a model; None if
            the run trains a model.
    """

    model: ModelConfig | None = None
    data: DataRecipe = field(default_factory=DataRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    ema: EmaRecipe = field(default_factory=EmaRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)
    distillation: DistillationRecipe | None = None
    predictor: PredictorRecipe = field(default_factory=PredictorRecipe)
    classifier: ClassifierRecipe | None = None

    def with_length(self, steps: int | None, minutes: float | None) -> Recipe:
        """Return the recipe with another length, if one is given.

        Raises:
            BadArgument: Two lengths are given, or none here either.
        """
        if steps is not None and minutes is not None:
            raise BadArgument("both `steps` and `minutes`; give one")

        schedule = self.schedule
        if steps is not None or minutes is not None:
            table = {**asdict(schedule), "steps": steps, "minutes": minutes}
            schedule = section_of(
                ScheduleRecipe,
                {k: v for k, v in table.items() if v is not None},
                "schedule",
                "length",
            )

        if schedule.steps is None and schedule.minutes is None:
            raise BadArgument(
                "how long to train: pass `minutes` or `steps`, or set one in the recipe's "
                "[schedule]"
            )

        return replace(self, schedule=schedule)

    @property
    def classifier_config(self) -> ClassifierConfig | None:
        """Description of the classifier that is trained, or None."""
        if self.classifier is None:
            return None
        return self.classifier.config(self.model or default_model(), self.data.crop)

    def description(self, index: int) -> ModelConfig | ClassifierConfig:
        """Return what is written beside the exported weights, see `exported_model`."""
        return self.classifier_config or self.exported_model(index)

    @property
    def predictor_data(self) -> PredictorData | None:
        """The part of the predictor in the batches; None if it takes no part in the run."""
        model = self.model or default_model()
        conditions = model.condition_picture == "predicted"
        if model.predictor is None or not (self.predictor.fraction or conditions):
            return None
        return PredictorData(model.predictor.shown, self.predictor.fraction or 0.0, conditions)

    def exported_model(self, index: int) -> ModelConfig:
        """Return the description of the exported weights, of this round in a distillation."""
        model = self.model or default_model()
        if self.distillation is None:
            return model
        return replace(model, distilled_levels=self.distillation.student_levels(model, index))


@cache
def default_model() -> ModelConfig:
    """Return the description of the default model."""
    path = pretrained.checkpoint_path("default").with_suffix(".json")
    table = read_json(path)
    return ModelConfig.from_dict({key: value for key, value in table.items() if key != "sha256"})


def differences(one: Any, other: Any, at: str = "") -> list[str]:
    """Return the keys in which two recipes or model descriptions differ, with both values.

    For example ``["optimiser.rate: 1 | 2"]``.
    """
    one, other = (
        asdict(x) if is_dataclass(x) and not isinstance(x, type) else x for x in (one, other)
    )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*one, *(k for k in other if k not in one)]
        return [
            d for k in keys for d in differences(one.get(k), other.get(k), f"{at}.{k}" if at else k)
        ]

    return [] if _plain(one) == _plain(other) else [f"{at}: {_plain(one)} | {_plain(other)}"]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
