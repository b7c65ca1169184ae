"""The lines about a training run."""

from __future__ import annotations

from restore.training.lines import TrainingLines
from restore.training.run import Progress


def test_the_losses_of_two_networks_have_two_names() -> None:
    said: list[str] = []
    lines = TrainingLines(said.append, every=1)
    lines(Progress(1, 4, 0.25, 60.0, 0.5, 2000.0))
    lines(Progress(2, 4, 0.5, 60.5, 0.5, 2000.0))  # too soon
    lines(Progress(3, 4, 0.75, 90.0, -3.25, 3000.0, of_predictor=True))
    assert said == [
        "step 1: 25 %, loss 0.5000, 2 thousand pixels/s, 3.0 min left",
        "step 3: 75 %, predictor loss -3.2500, 3 thousand pixels/s, 0.5 min left",
    ]
