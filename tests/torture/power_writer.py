"""The program whose power is cut: the product's own write path, on a file system that remembers.

`python -m tests.torture.power_writer <directory> <seed> <file system beneath>` writes to all three databases
in one thread and leaves a recording. Nothing of the product is imported before SQLite was replaced.
"""

import sys
from pathlib import Path
from random import Random

from tests.torture.power_story import Entry, Refused, write_recording
from tests.torture.recording import take_the_place_of_sqlite


def main(directory: Path, seed: str, beneath: str) -> None:
    entries: list[Entry] = []
    chance = Random(seed)
    take_the_place_of_sqlite(entries.append, chance, beneath)
    from ledger.errors import LedgerUnusable
    from tests.torture.power_steps import Steps

    try:
        Steps(directory, chance, entries.append).run()
    except LedgerUnusable as unusable:
        entries.append(Refused(str(unusable)))
    write_recording(directory, entries)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
