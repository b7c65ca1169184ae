"""The jobs of a server: a bounded queue, one worker a device, results that are kept for a time.

Everything here runs in the event loop of the server; only `Engine.run` is called in threads.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from restore.serve.engine import JobCancelled, JobFailed
from restore.serve.messages import Progressed, Restored
from restore.serve.order import Order
from restore.serve.settings import Limits

State = Literal["queued", "running", "done", "failed", "cancelled"]

# Seconds that a job is taken to need before any has ended, and the longest advice to wait.
GUESSED_SECONDS = 10.0
LONGEST_WAIT = 300


class QueueFull(Exception):
    """No further job may wait.

    Attributes:
        seconds: time after which there may be a place.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many pictures are waiting; try again in {seconds} s")
        self.seconds = seconds


class Worker(Protocol):
    """What the queue needs of `restore.serve.engine.Engine`."""

    device: str

    @property
    def is_ready(self) -> bool: ...

    def run(self, order: Order, progress: Any) -> Restored: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Job:
    """One order on its way.

    Attributes:
        task: name of the task.
        order: what is to be done; None once it is done.
        id: name that cannot be guessed.
        state: where it is.
        step: calls of the network done, of ``steps``.
        steps: calls of the whole job; 0 if unknown.
        seconds_left: estimate of the time left; None if unknown.
        preview: clean estimate as a JPEG; None before the first.
        previews: number of previews so far.
        restored: the result.
        error: why it failed.
        is_known: True for an error that the request caused.
        code: exit code that the command would have.
        watchers: number of streams of its progress.
        changed: is set, and replaced, when anything changes.
    """

    task: str
    order: Order | None
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "queued"
    step: int = 0
    steps: int = 0
    seconds_left: float | None = None
    preview: bytes | None = None
    previews: int = 0
    restored: Restored | None = None
    error: str | None = None
    is_known: bool = False
    code: int = 0
    watchers: int = 0
    began: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def size(self) -> int:
        """Bytes of its result."""
        if self.restored is None:
            return 0
        files = sum(len(file.data) for file in self.restored.files)
        return files + sum(map(len, self.restored.views.values()))

    def tell(self) -> None:
        """Wake everyone who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def over(self) -> None:
        """Wait for the end."""
        while not self.is_over:
            await self.changed.wait()

    async def changes(self, seconds: float) -> AsyncIterator[bool]:
        """Yield True at once and after each change until the end, False after silence.

        Args:
            seconds: longest silence.
        """
        changed = self.changed
        yield True
        while not self.is_over or changed.is_set():
            try:
                await asyncio.wait_for(changed.wait(), seconds)
            except TimeoutError:
                yield False
                continue
            changed = self.changed
            yield True


class Queue:
    """Jobs in the order of their arrival, and the workers that take them.

    Args:
        workers: one for each device.
        limits: length of the queue, and how long results are kept.
    """

    def __init__(self, workers: Sequence[Worker], limits: Limits) -> None:
        self.workers = list(workers)
        self.limits = limits
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: dict[str, Worker] = {}
        self._free = list(self.workers)
        self._over: deque[Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(max(1, len(self.workers)), "worker")
        self._mean_seconds = GUESSED_SECONDS
        self._is_closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def check_room(self) -> None:
        """Refuse a further job if too many wait.

        Raises:
            QueueFull: too many do.
        """
        if len(self._waiting) >= self.limits.queue:
            turns = (len(self._waiting) + 1) / len(self.workers)
            raise QueueFull(min(LONGEST_WAIT, math.ceil(self._mean_seconds * turns)))

    def add(self, task: str, order: Order) -> Job:
        """Put an order at the end of the queue.

        Raises:
            QueueFull: too many wait.
        """
        self.check_room()
        job = Job(task, order)
        self._jobs[job.id] = job
        self._waiting.append(job)
        self._begin()
        return job

    def find(self, id: str) -> Job | None:
        """Return a job; None if there is none, or none any more."""
        return self._jobs.get(id)

    def position(self, job: Job) -> int:
        """Return the number of jobs before a waiting one; 0 if it does not wait."""
        return self._waiting.index(job) if job in self._waiting else 0

    def cancel(self, job: Job) -> None:
        """Cancel a job that is not over; its end comes soon."""
        if job.state == "queued":
            self._waiting.remove(job)
            self._end(job, "cancelled")
        elif job.state == "running":
            self._run_apart(asyncio.to_thread(self._running[job.id].cancel))

    def remove(self, job: Job) -> None:
        """Cancel a job, or forget its result."""
        if not job.is_over:
            self.cancel(job)
            return
        if self._jobs.pop(job.id, None) is not None:
            self._over.remove(job)

    def left(self, job: Job) -> None:
        """Note that a watcher of a job has gone; without another one it is cancelled soon."""

        def cancel_unwatched() -> None:
            if not job.watchers and not job.is_over:
                self.cancel(job)

        if not job.watchers and not job.is_over:
            asyncio.get_running_loop().call_later(self.limits.vanish_seconds, cancel_unwatched)

    def close(self) -> None:
        """Cancel all jobs, and end the workers."""
        self._is_closed = True
        for job in list(self._waiting):
            self.cancel(job)
        for worker in self.workers:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """Give waiting jobs to free workers."""
        while self._waiting and self._free and not self._is_closed:
            job = self._waiting.popleft()
            worker = self._free.pop()
            self._running[job.id] = worker
            job.state = "running"
            job.began = time.monotonic()
            job.tell()
            self._run_apart(self._work(job, worker))

    async def _work(self, job: Job, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        order = job.order
        assert order is not None

        def progress(done: Progressed) -> None:
            loop.call_soon_threadsafe(self._progressed, job, done)

        try:
            restored = await loop.run_in_executor(self._threads, worker.run, order, progress)
        except JobCancelled:
            self._end(job, "cancelled")
        except JobFailed as error:
            job.error, job.is_known, job.code = error.text, error.is_known, error.code
            self._end(job, "failed")
        except Exception as error:
            job.error, job.code = f"{type(error).__name__} in the server", 15
            self._end(job, "failed")
        else:
            job.restored = restored
            seconds = time.monotonic() - (job.began or 0)
            self._mean_seconds += 0.3 * (seconds - self._mean_seconds)
            self._end(job, "done")
        finally:
            self._running.pop(job.id, None)
            self._free.append(worker)
            self._begin()

    def _progressed(self, job: Job, done: Progressed) -> None:
        if job.is_over:
            return
        job.step, job.steps, job.seconds_left = done.step, done.steps, done.seconds_left
        if done.preview is not None:
            job.preview = done.preview
            job.previews += 1
        job.tell()

    def _end(self, job: Job, state: State) -> None:
        job.state = state
        job.order = None
        job.seconds_left = 0.0
        self._over.append(job)
        job.tell()
        asyncio.get_running_loop().call_later(self.limits.keep, self.remove, job)

        while len(self._over) > 1 and sum(one.size for one in self._over) > self.limits.keep_bytes:
            self.remove(self._over[0])

    def _run_apart(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
