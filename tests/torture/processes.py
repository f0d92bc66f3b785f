"""Faults 1: processes that are killed, stopped and replaced at any moment, while clients are at work."""

import time
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM
from typing import Final

from tests.torture.round import Round
from tests.torture.stage import Stage, signalled

_WORKERS: Final = 3
# A worker that is still booting overhears SIGTERM, and then everybody waits ten seconds for it.
_BOOTED_S: Final = 1.0


def processes(part: Round) -> None:
    """Kill, stop and replace workers, masters and sealers; then nothing may be lost, doubled or invented."""
    with Stage(part, workers=_WORKERS) as stage:
        with stage.clients.busy():
            while not part.over:
                time.sleep(part.random.uniform(0.05, 0.6))
                part.random.choices(list(_FAULTS), list(_FAULTS.values()))[0](stage)
        time.sleep(_BOOTED_S)
        stage.restart()
        stage.judge()


def _kill_worker(stage: Stage) -> None:
    for pid in _some(stage):
        stage.part.tally["workers killed"] += signalled(pid, SIGKILL)


def _kill_all_workers(stage: Stage) -> None:
    for pid in stage.pids()[1:]:
        stage.part.tally["workers killed"] += signalled(pid, SIGKILL)


def _end_worker(stage: Stage) -> None:
    for pid in _some(stage):
        stage.part.tally["workers ended"] += signalled(pid, SIGTERM)


def _stop_workers(stage: Stage) -> None:
    """Those that hold the turnstile keep everybody waiting; those that do not, their own clients."""
    chance = stage.part.random
    victims = chance.sample(pids := stage.pids()[1:], chance.randint(0, len(pids)))
    for pid in victims:
        stage.part.tally["workers stopped for a while"] += signalled(pid, SIGSTOP)
    time.sleep(chance.uniform(0.1, 1.5))
    for pid in victims:
        if chance.random() < 0.3:
            stage.part.tally["workers killed"] += signalled(pid, SIGKILL)
        signalled(pid, SIGCONT)


def _replace_all(stage: Stage) -> None:
    """A rolling restart, as a deployment does it."""
    stage.part.tally["rolling restarts"] += signalled(stage.pids()[0], SIGHUP)


def _kill_master(stage: Stage) -> None:
    """Its workers serve on until they notice."""
    stage.part.tally["masters killed"] += signalled(stage.pids()[0], SIGKILL)
    time.sleep(stage.part.random.uniform(0, 1.5))
    stage.service.stop(SIGKILL)
    stage.service.start()


def _end_master(stage: Stage) -> None:
    stage.part.tally["masters ended"] += 1
    stage.service.stop(SIGTERM)
    stage.service.start()


def _kill_sealer(stage: Stage) -> None:
    """A sealer of our own beside the service's, stopped or killed wherever it is by then."""
    chance = stage.part.random
    with stage.command("seal") as sealer:
        time.sleep(chance.uniform(0.05, 0.5))  # it takes about as long
        if chance.random() < 0.5:
            sealer.send_signal(SIGSTOP)
            stage.part.tally["sealers stopped for a while"] += 1
            time.sleep(chance.uniform(0.1, 0.5))
            sealer.send_signal(SIGCONT)
        if chance.random() < 0.7:
            stage.part.tally["sealers killed"] += sealer.poll() is None
            sealer.kill()
        sealer.communicate()
    for pid in _sealers_of(stage):
        stage.part.tally["sealers killed"] += signalled(pid, SIGKILL)


_FAULTS: Final[dict[Callable[[Stage], None], int]] = {
    _kill_worker: 4,
    _kill_all_workers: 2,
    _end_worker: 2,
    _stop_workers: 5,
    _replace_all: 2,
    _kill_master: 2,
    _end_master: 1,
    _kill_sealer: 3,
}


def _some(stage: Stage) -> list[int]:
    workers = stage.pids()[1:]
    return [stage.part.random.choice(workers)] if workers else []


def _sealers_of(stage: Stage) -> list[int]:
    """The sealers that the service's own workers started, if any is at work."""
    found = []
    for worker in stage.pids()[1:]:
        for children in Path(f"/proc/{worker}/task").glob("*/children"):
            try:
                found += [int(pid) for pid in children.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue  # the worker, or that thread of it, ended just now
    return found
