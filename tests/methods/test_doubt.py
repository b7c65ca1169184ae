"""The doubt whether a kernel explains its input: clipping alone raises none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.pictures import piece

from restore.jobs.picture import unexplained
from restore.methods.options import Options
from restore.methods.report import is_doubtful
from restore.restorer import restorer
from restore.tasks import Deblurring, SuperResolution


def text(size: tuple[int, int]) -> np.ndarray:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for row in range(3, size[1] - 10, 12):
        draw.text((3, row), "Sharp text, 1234", fill="black")
    return np.asarray(image)


def test_none_about_sharp_text():
    report = restorer().run(SuperResolution(4), text((72, 40)), steps=2).report
    assert is_doubtful(report.consistency, report.noise)
    assert not is_doubtful(report.unexplained, report.noise)
    assert not unexplained(vars(report))


@pytest.mark.parametrize("noise", ["auto", 0.01])
def test_about_a_kernel_that_is_wrong(noise):
    sharp = np.asarray(piece((64, 56)).convert("RGB"))
    report = restorer().run(Deblurring("gaussian:4", noise=noise), sharp, steps=3).report
    assert is_doubtful(report.unexplained, report.noise)
    assert unexplained(vars(report))


def test_together_as_alone():
    pictures = [text((48, 40)), np.asarray(piece((48, 40)).convert("RGB"))]
    task = SuperResolution(2)
    run = restorer()
    for one, picture in zip(
        run.restore_together(task, pictures, Options(steps=2)), pictures, strict=True
    ):
        alone = run.run(task, picture, steps=2).report
        assert one.report.unexplained == pytest.approx(alone.unexplained, abs=1e-3)


def test_records_without_it_go_by_the_consistency():
    assert unexplained({"consistency": 0.1, "noise": 0.01})
    assert not unexplained({"consistency": 0.02, "noise": 0.01})
