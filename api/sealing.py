"""The sealer: once a minute a process of its own, started by whichever worker has that duty."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import structlog

from ledger.sqlite import Turnstile

log = structlog.get_logger()

# Soon after the start, so that what was written just before it ended is sealed.
_FIRST_S: Final = 5
_INTERVAL_S: Final = 60
# So long a sealer that is at work may go on when the service stops; one that is killed leaves no half a seal.
_FINISH_S: Final = 5


async def seal_every_minute(data: Path) -> None:
    """Run `credit-ledger seal` for ever, while this process has the duty; cancel it to stop.

    The duty is a lock that a process has until it ends, however it does; then another worker takes it.
    """
    duty = Turnstile(data / "sealer.lock")
    try:
        await asyncio.sleep(_FIRST_S)
        while True:
            if duty.take_if_free():
                await _seal(data)
            await asyncio.sleep(_INTERVAL_S)
    finally:
        duty.close()


async def _seal(data: Path) -> None:
    """One seal, out of the way of whoever serves: it hashes for as long as a second."""
    command = [sys.executable, "-P", "-m", "scripts.credit_ledger_seal", "--background"]
    sealer = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "CREDIT_DATA": str(data)},
    )
    try:
        output, _ = await sealer.communicate()
    except asyncio.CancelledError:
        try:
            await asyncio.wait_for(sealer.wait(), _FINISH_S)
        except TimeoutError:
            sealer.kill()
            await sealer.wait()
        raise
    if sealer.returncode:
        log.error("not sealed", status=sealer.returncode, output=output.decode(errors="replace")[-1000:])
    elif output:
        log.info("sealed", what=output.decode(errors="replace").strip())
