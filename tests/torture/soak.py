"""Fault 9: nothing but time. Memory, open files and the write-ahead logs must not grow with it.

A round of some seconds shows little of that: give `soak` a Round of an hour.
"""

import time
from pathlib import Path
from typing import Final

import msgspec

from tests.torture.round import Round
from tests.torture.stage import Stage

_PAUSE_S: Final = 0.05
_SAMPLES: Final = 60
_MORE_MEMORY_KIB: Final = 16 * 1024
# Of connections and of a seal or a backup that is being read, some come and go.
_MORE_FILES: Final = 16
# What journal_size_limit leaves, and what one burst can add before the next checkpoint.
_WAL_BYTES: Final = 72 * 2**20


class Sample(msgspec.Struct, frozen=True):
    """What the service takes at a moment: of all workers together, and of the largest write-ahead log."""

    memory_kib: int
    files: int
    wal_bytes: int


def soak(part: Round) -> None:
    """Mixed load until the time is up, with seals and backups as in every day's work; then as everywhere."""
    samples: list[Sample] = []
    begun = time.monotonic()
    with Stage(part, workers=2, pause_s=_PAUSE_S) as stage:
        with stage.clients.busy():
            while not part.over:
                samples.append(_sample(stage))
                part.tally["samples of memory and files"] += 1
                time.sleep(max(0.2, min(30.0, (time.monotonic() - begun) / _SAMPLES)))
        for problem in grown(samples):
            part.expect(False, problem)
        stage.restart()
        stage.judge()


def grown(samples: list[Sample]) -> list[str]:
    """What the last quarter has more of than the second: the first is for warming up."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples[:1], samples[-quarter:]
    found = []
    for what, bound in (("memory_kib", _MORE_MEMORY_KIB), ("files", _MORE_FILES)):
        before, after = (min(getattr(sample, what) for sample in part) for part in (early, late))
        if after > before + bound:
            found.append(f"{what} grew from {before} to {after}")
    largest = max((sample.wal_bytes for sample in samples), default=0)
    if largest > _WAL_BYTES:
        found.append(f"a write-ahead log grew to {largest} bytes")
    return found


def _sample(stage: Stage) -> Sample:
    memory, files = 0, 0
    for pid in stage.pids()[1:]:
        status = Path(f"/proc/{pid}/status").read_text()
        memory += int(status.partition("RssAnon:")[2].split()[0])
        files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
    wal = max((path.stat().st_size for path in stage.data.glob("*.db-wal")), default=0)
    return Sample(memory, files, wal)
