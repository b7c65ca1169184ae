"""How well every method restores the pictures of a folder, the classical methods included: a table a task.

    python benchmarks/restoration.py DATA_FOLDER --size 256 --markdown results.md --json results.json

benchmarks/problems.py has the tasks and says how pictures are degraded. The rules, for every method:

- It is told the operator and the standard deviation of the noise (not of the rounding).
- Its result is rounded to 8 bits before it is measured; numbers are means over the pictures.
- PSNR-Y leaves out a border of the scale factor in super-resolution, as its literature does.
- Consistency is the RMS of A x − y in [0, 1]. The truth's own is given too: what is below it fits noise.
- Seconds are wall-clock time from the measurement to the result, the operator's set-up included.

LPIPS needs AlexNet's weights, named in the environment variable RESTORE_LPIPS_TRUNK. For the times that the
`restore` command has on a CPU, set THP_MEM_ALLOC_ENABLE=1 as it does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from problems import LEARNED, TASKS, Case, EightBit, Task, eight_bit, load_pictures, to_tensor
from report import Score, strip, table
from torch import Tensor

from restore import Restorer, evaluation
from restore.devices import device_name
from restore.errors import Unavailable

STRIPS = 3
"""For how many pictures of each task `--images` saves a strip."""

Lpips = Callable[[Tensor, Tensor], Tensor]


def restore_by(method: str, task: Task, case: Case, restorer: Restorer) -> tuple[EightBit, int]:
    """The result in 8 bits and the calls of the network."""
    if method in task.learned:
        border = {"boundary": "symmetric"} if task.kind == "deblur" and method == "ddrm" else {}  # it needs an SVD
        result = restorer.run(task.kind, case.file, {**case.arguments, **border}, method=method)
        return result.mean, result.report.steps
    return eight_bit(task.classical[method](case)), 0


def score(
    task: Task,
    case: Case,
    result: EightBit,
    lpips: Lpips | None,
    calls: int | None = None,
    seconds: float | None = None,
) -> Score:
    """All the numbers of one result."""
    estimate = to_tensor(result.astype(np.float32) / 255)
    return Score(
        psnr=float(evaluation.psnr(estimate, case.truth)),
        psnr_y=float(evaluation.psnr_y(estimate, case.truth, task.border)),
        ssim=float(evaluation.ssim(estimate, case.truth)),
        lpips=float(lpips(estimate, case.truth)) if lpips else None,
        consistency=consistency(case, estimate),
        calls=calls,
        seconds=seconds,
    )


def consistency(case: Case, estimate: Tensor) -> float:
    """RMS of A x − y in [0, 1] units, of an estimate [1, 3, H, W] in [0, 1]."""
    photo = case.photo if case.photo.ndim == 3 else case.photo[..., None]
    return float(evaluation.consistency(case.operator, estimate, to_tensor(photo)))


def methods_of(task: Task, wanted: Sequence[str]) -> list[str]:
    """The task's methods, or those of them that are wanted; the input where it has the result's size."""
    shown = [] if task.kind in ("sr", "colorize") else ["input"]
    return [m for m in (*shown, *task.classical, *task.learned) if not wanted or m in wanted]


def run_case(
    task: Task, case: Case, methods: Sequence[str], restorer: Restorer, lpips: Lpips | None
) -> tuple[dict[str, Score], dict[str, EightBit]]:
    """Every method on one picture: scores and results."""
    scores, results = {}, {}
    for method in methods:
        if method == "input":
            scores[method] = score(task, case, case.file, lpips)
            continue
        started = time.perf_counter()
        results[method], calls = restore_by(method, task, case, restorer)
        seconds = time.perf_counter() - started
        scores[method] = score(task, case, results[method], lpips, calls, seconds)
        say(f"{task.name} {case.name} {method}: {scores[method].psnr:.2f} dB, {seconds:.2f} s")
    return scores, results


def save_strip(folder: Path, task: Task, case: Case, scores: dict[str, Score], results: dict[str, EightBit]) -> None:
    truth = eight_bit(case.truth[0].permute(1, 2, 0).numpy())
    panels = [(f"{method} {scores[method].psnr:.2f}", result) for method, result in results.items()]
    folder.mkdir(parents=True, exist_ok=True)
    strip([("truth", truth), ("input", case.file), *panels]).save(folder / f"{task.name}-{Path(case.name).stem}.png")


def describe(arguments: argparse.Namespace, pictures: dict[str, EightBit], restorer: Restorer) -> dict[str, Any]:
    """What a reader must know to get the same numbers; names only, no paths."""
    device = restorer.device
    return {
        "folder": arguments.folder.resolve().name,
        "pictures": list(pictures),
        "size": arguments.size,
        "model": Path(restorer.model).name,
        "device": device_name(device),
        "dtype": str(restorer.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def headline(setting: dict[str, Any]) -> str:
    crop = "top-left {size}×{size}".format(**setting) if setting["size"] else "whole"
    return (
        f"{len(setting['pictures'])} pictures of `{setting['folder']}`, {crop}. "
        "Model {model}, {device}, {dtype}, {threads} threads, torch {torch}. ".format(**setting)
        + "Means over the pictures, the best in bold.\n"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    split = lambda text: text.split(",")  # noqa: E731
    every = {"input", *LEARNED, *(method for task in TASKS.values() for method in task.classical)}
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--size", type=int, default=256, help="side of the crop; 0 is the whole picture")
    parser.add_argument("--count", type=int, help="only the first pictures")
    parser.add_argument("--tasks", type=split, default=list(TASKS), help=f"of {','.join(TASKS)}")
    parser.add_argument("--methods", type=split, default=[], help=f"of {','.join(sorted(every))}")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="every picture's numbers")
    parser.add_argument("--markdown", type=Path, metavar="OUT.md")
    parser.add_argument("--images", type=Path, metavar="OUT_FOLDER", help=f"strips of the first {STRIPS} pictures")
    arguments = parser.parse_args()
    for unknown in (*(set(arguments.tasks) - TASKS.keys()), *(set(arguments.methods) - every)):
        parser.error(f"{unknown!r} is no task or method; --help lists them")
    return arguments


def load_lpips() -> Lpips | None:
    try:
        return evaluation.load_lpips()
    except Unavailable as error:
        say(f"The column LPIPS stays empty. {error}")
        return None


def main() -> None:
    """Run the tasks; the files are written anew after each, so that a long run can be looked at."""
    arguments = parse()
    pictures = load_pictures(arguments.folder, arguments.size, arguments.count)
    restorer = Restorer(arguments.model, arguments.device)
    lpips = load_lpips()
    restorer.denoise(next(iter(pictures.values())), 0.1, method="one-step")  # warm-up
    setting = describe(arguments, pictures, restorer)
    text, tasks = headline(setting), {}
    print(text, flush=True)
    for task in (TASKS[name] for name in arguments.tasks):
        methods = methods_of(task, arguments.methods)
        by_picture, floors = {}, []
        for index, (name, picture) in enumerate(pictures.items()):
            case = task.degrade(name, picture)
            floors.append(consistency(case, case.truth))
            by_picture[name], results = run_case(task, case, methods, restorer, lpips)
            if arguments.images and index < STRIPS:
                save_strip(arguments.images, task, case, by_picture[name], results)
        scores = {method: {name: by_picture[name][method] for name in pictures} for method in methods}
        section = table(task.name, scores, fmean(floors))
        print(section, flush=True)
        text += "\n" + section
        numbers = {method: {name: asdict(s) for name, s in of.items()} for method, of in scores.items()}
        tasks[task.name] = {"truth_consistency": fmean(floors), "scores": numbers}
        if arguments.markdown:
            arguments.markdown.write_text(text, encoding="utf-8")
        if arguments.json:
            arguments.json.write_text(json.dumps({**setting, "tasks": tasks}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
