"""A server of `restore serve` in this process, whose worker is a thread with a tiny model."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from support.pictures import in_mode, piece

from restore.commands.serve import forms
from restore.photo.photograph import Photo, write_photo
from restore.photo.profiles import profile
from restore.restorer import Restorer
from restore.serve.app import make_app
from restore.serve.engine import JobCancelled, JobFailed
from restore.serve.fields import Form
from restore.serve.messages import Restored
from restore.serve.order import Order
from restore.serve.settings import Address, Limits
from restore.serve.worker import Cancelled, Follower, failure

PROFILE = profile("display-p3")


class Here:
    """A worker in this process; `gate` holds it back at each step while it is clear."""

    device = "cpu"
    is_ready = True

    def __init__(self, model: Path) -> None:
        self.restorer = Restorer(str(model), "cpu")
        self.gate = threading.Event()
        self.gate.set()
        self.cancelled = threading.Event()

    def run(self, order: Order, progress) -> Restored:
        self.cancelled.clear()

        def is_cancelled() -> bool:
            while not self.gate.wait(0.01) and not self.cancelled.is_set():
                pass
            return self.cancelled.is_set()

        follow = Follower(progress, is_cancelled, order.options.samples)
        try:
            return order.carry_out(self.restorer, follow)
        except Cancelled:
            raise JobCancelled from None
        except Exception as error:
            raise JobFailed(*failure(error)) from None

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.cancelled.set()


@cache
def all_forms() -> dict[str, Form]:
    return forms()


def application(worker: Here, address: Address | None = None, **limits) -> FastAPI:
    return make_app(all_forms(), [worker], address, replace(Limits(), **limits))


@contextmanager
def served(worker: Here, address: Address | None = None, **limits) -> Iterator[TestClient]:
    app = application(worker, address, **limits)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        try:
            yield client
        finally:
            worker.gate.set()


def png(size: tuple[int, int] = (24, 16), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    in_mode(piece(size), mode).save(file, "PNG")
    return file.getvalue()


def hole(size: tuple[int, int] = (24, 16)) -> bytes:
    """A mask with a white rectangle."""
    mask = np.zeros(size[::-1], np.uint8)
    mask[4:9, 5:12] = 255
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def deep_png(path: Path, size: tuple[int, int] = (24, 16)) -> bytes:
    """Write a 16-bit PNG with transparency and a profile, and return its content."""
    values = np.asarray(piece(size), np.float32) / 255
    ramp = np.linspace(0, 1, size[0], dtype=np.float32)[None].repeat(size[1], 0)
    write_photo(Photo(values, ramp, bits=16, icc_profile=PROFILE), path)
    return path.read_bytes()


def order(picture: bytes | None = None, mask: bytes | str | None = None, **options) -> dict:
    """The parts of a request, with names that no file may get; a mask as text is an option."""
    files = {"picture": ("../../etc/<b>passwd</b>", png() if picture is None else picture)}
    if isinstance(mask, str):
        options["mask"] = mask
    elif mask is not None:
        files["mask"] = ("C:\\mask", mask)
    return {"files": files, "data": {"options": json.dumps({"steps": 2, **options})}}


def asked(client: TestClient, task: str, *, wait: bool = True, **parts):
    return client.post(f"/api/restore/{task}", params={} if wait else {"wait": False}, **parts)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)
