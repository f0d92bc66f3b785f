"""What is looked at after a storm of requests: ledger, log, workers, and how fast others were served."""

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from ledger.verify import audit
from tests.conftest import Service
from tests.torture.raw_http import Answer, ask, request
from tests.torture.round import Round

MIB: Final = 2**20
# A machine that does much else: what is looked for are waits of seconds, and growth without end.
_SLOWEST_MEDIAN_S: Final = 0.05
_TIMES_SLOWER: Final = 10
# A read wakes up somebody some times more often than a line that goes through `cat` and back.
_TIMES_A_LINE: Final = 20
_MORE_FILES: Final = 8
_SETTLED_S: Final = 15
# Of fewer the median says nothing.
_LEAST_READS: Final = 25
# What nobody foresaw, in the words of the service, of gunicorn, and of the event loop.
_ALARMS: Final = ("unexpected error", "Traceback", "Error handling connection", "Error in ASGI", "Fatal error")


class Burden(msgspec.Struct, frozen=True):
    """What a worker has of the machine; `peak` is the most memory that it ever had."""

    resident: int
    peak: int
    descriptors: int
    threads: int


Burdens = dict[int, Burden]


def burdens(service: Service) -> Burdens:
    """Each worker's, by process id."""
    return {pid: _burden(Path(f"/proc/{pid}")) for pid in service.worker_pids()}


def _burden(process: Path) -> Burden:
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return Burden(resident, peak, len(list((process / "fd").iterdir())), int(fields["Threads"]))


def settled(service: Service, before: Burdens, *, more_files: int = _MORE_FILES) -> Burdens:
    """The burdens once the descriptors are about as few as before, or after so long in any case."""
    deadline = time.monotonic() + _SETTLED_S
    while (now := burdens(service)).keys() == before.keys() and time.monotonic() < deadline:
        if all(now[pid].descriptors <= before[pid].descriptors + more_files for pid in now):
            break
        time.sleep(0.2)
    return now


def expect_flat(
    round_: Round,
    before: Burdens,
    after: Burdens,
    *,
    more_memory: int,
    more_peak: int,
    more_files: int = _MORE_FILES,
) -> None:
    """The same workers as before, with hardly more memory, files and threads than they had."""
    round_.expect(before.keys() == after.keys(), f"workers {sorted(before)} became {sorted(after)}")
    for pid in before.keys() & after.keys():
        was, now = before[pid], after[pid]
        grown, peaked = now.resident - was.resident, now.peak - was.resident
        round_.expect(
            grown <= more_memory, f"worker {pid} grew by {grown // MIB} MiB, allowed {more_memory // MIB}"
        )
        round_.expect(
            peaked <= more_peak,
            f"worker {pid} had {peaked // MIB} MiB more at its peak, allowed {more_peak // MIB}",
        )
        round_.expect(
            now.descriptors <= was.descriptors + more_files,
            f"worker {pid} had {was.descriptors} files open, and keeps {now.descriptors}",
        )


class Expected(msgspec.Struct, frozen=True):
    """What must be in the ledger, all of it, after a round."""

    events: int
    accounts: int
    outstanding: int


def expect_ledger(round_: Round, data: Path, expected: Expected) -> None:
    """The ledger audits good, and nothing is in it that was not asked for and answered."""
    report = audit(data / "ledger.db", seals=data / "seals.db")
    for fault in report.faults[:5]:
        round_.expect(False, f"the audit found {fault}")
    for what in ("events", "accounts", "outstanding"):
        found, wanted = getattr(report, what), getattr(expected, what)
        round_.expect(found == wanted, f"the ledger has {found} {what}, and {wanted} were answered for")


def expect_quiet(round_: Round, log: str) -> None:
    """No line of the log says that something happened that nobody foresaw."""
    alarms = [line for line in log.splitlines() if any(alarm in line for alarm in _ALARMS)]
    for line in alarms[:3]:
        round_.expect(False, f"{len(alarms)} alarms in the log: {line[:600]}")


async def sound(port: int, request_: bytes) -> Answer | None:
    """The answer to a request that nothing is wrong with; None where there is none within ten seconds."""
    try:
        return await ask(port, request_, 10)
    except TimeoutError:
        return None


async def expect_ready(round_: Round, port: int, when: str) -> None:
    """`/readyz` says that both databases can be written."""
    ready = await sound(port, request("GET", "/readyz"))
    round_.expect(ready is not None and ready.status == 200, f"/readyz {when} answered {ready}")


class Latencies(msgspec.Struct, frozen=True):
    """What `GET /credit` took, in seconds, and what a line through `cat` took by turns with it: that long
    somebody waits for this machine, whatever the service does."""

    reads: list[float]
    lines: list[float]


async def credit_latencies(round_: Round, port: int, token: str, credit: int, seconds: float) -> Latencies:
    """Each read is on a connection of its own; every answer must be right."""
    took = Latencies([], [])
    pipe = asyncio.subprocess.PIPE
    cat = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    assert cat.stdin is not None
    assert cat.stdout is not None
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline or len(took.reads) < _LEAST_READS:
        begun = time.monotonic()
        answer = await sound(port, request("GET", f"/credit?token={token}"))
        right = answer is not None and answer.body == b'{"credit":%d}' % credit
        round_.expect(right, f"GET /credit of a bystander with {credit} was answered {answer}")
        round_.tally["reads of bystanders"] += 1
        took.reads.append(time.monotonic() - begun)
        begun = time.monotonic()
        cat.stdin.write(b"\n")
        await cat.stdout.readline()
        took.lines.append(time.monotonic() - begun)
        await asyncio.sleep(0.01)
    cat.stdin.close()
    await cat.wait()
    return took


def expect_unhindered(round_: Round, during: str, before: Latencies, then: Latencies) -> None:
    """`GET /credit` was about as fast as before, at the median, on a machine that may do more than before."""
    was, now = median(before.reads), median(then.reads)
    allowed = max(_SLOWEST_MEDIAN_S, _TIMES_SLOWER * was) + _TIMES_A_LINE * median(then.lines)
    round_.expect(
        now < allowed,
        f"GET /credit took {now * 1000:.0f} ms during {during}, {was * 1000:.1f} ms before it: "
        f"{allowed * 1000:.0f} ms are allowed",
    )
