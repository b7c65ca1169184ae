"""A worker process for `restore.serve.engine` that does at once what its orders say."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time

from restore.serve.messages import Failed, File, Progressed, Ready, Restored

requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
cancelled = threading.Event()


def send(message: object) -> None:
    pickle.dump(message, answers)
    answers.flush()


def work(order: str) -> object:
    if order == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(60)  # another thread may get it
    if order == "exit":
        os._exit(7)
    if order == "wait":
        send(Progressed(1, 2, 0.5, None))
        cancelled.wait(60)
        return None
    if order == "hang":
        send(Progressed(1, 2, 0.5, None))
        time.sleep(60)
    if order == "fail":
        return Failed("`scale`=1: wrong", True, 1)
    return Restored([File("restored.png", "image/png", str(os.getpid()).encode())], {}, {}, "")


def receive() -> None:
    while True:
        try:
            message = pickle.load(requests)
        except EOFError:
            os._exit(0)
        if isinstance(message, int):
            cancelled.set()
        else:
            threading.Thread(target=lambda order: send(work(order)), args=message[1:]).start()


def main() -> None:
    options = pickle.load(requests)
    if options.get("model") == "missing":
        send(Failed("`model`=missing: there is none", True, 3))
        sys.exit()
    send(Ready("cpu"))
    receive()


if __name__ == "__main__":
    main()
