"""What survives `kill -9`, over HTTP, with real workers."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
import requests

from ledger.committer import microseconds_now
from ledger.sqlite import connect
from ledger.statement import Reader
from ledger.verify import audit
from tests.backend import Backend
from tests.conftest import PATIENCE_S, Service

GRANTS = 1000
CLIENTS = 16


@pytest.mark.parametrize("victim", ["worker", "all workers"])
def test_kill_9_during_1000_grants_loses_no_acknowledged_one(
    new_service: Callable[..., Service], victim: str
) -> None:
    service = new_service(workers=3)
    token = service.login("alice")
    openid = service.openid_of("alice")
    backend = Backend(service, "grant")
    acknowledged: dict[str, int] = {}
    unknown: set[str] = set()
    numbers = iter(range(GRANTS))
    lock = threading.Lock()

    def grant() -> None:
        session = requests.Session()
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            key = f"grant-{number}"
            url, body = f"{service.url}/v1/accounts/{openid}/grants", {"amount": 1, "reason": "r"}
            try:
                answer = session.post(url, json=body, headers=backend.headers(key), timeout=PATIENCE_S)
                assert answer.status_code == 201, answer.text
                acknowledged[key] = answer.json()["event"]["version"]
            except requests.RequestException:
                unknown.add(key)
                time.sleep(0.05)  # where all workers are gone, do not burn every number on refused connections

    threads = [threading.Thread(target=grant) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    kills = 0
    for done in range(150, GRANTS, 150):
        while len(acknowledged) + len(unknown) < done:
            time.sleep(0.005)
        victims = service.worker_pids() if victim == "all workers" else service.worker_pids()[:1]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        service.wait_for_others(victims)
    for thread in threads:
        thread.join()
    assert kills >= 6
    assert len(acknowledged) > 100

    recorded = _versions_by_key(service)
    assert {key: recorded.get(key) for key in acknowledged} == acknowledged
    assert set(recorded) <= set(acknowledged) | unknown
    report = audit(service.data / "ledger.db")
    assert report.good, report.faults

    # What is unknown is settled by sending it again, once or often.
    for key in unknown:
        assert service.grant(openid, 1, "r", key).replayed == (key in recorded)
    assert service.credit(token) == {"credit": 100 + GRANTS}


def _versions_by_key(service: Service) -> dict[str, int]:
    connection = connect(service.data / "ledger.db", read_only=True)
    rows = connection.execute("SELECT key, version FROM event WHERE key IS NOT NULL").fetchall()
    connection.close()
    assert len({key for key, _ in rows}) == len(rows)
    return dict(rows)


def test_kill_9_of_everything_keeps_tokens_and_credit(new_service: Callable[..., Service]) -> None:
    service = new_service()
    token = service.login("alice")
    for pid in [*service.worker_pids(), service.process.pid if service.process else 0]:
        os.kill(pid, signal.SIGKILL)
    service.stop(signal.SIGKILL)
    service.start()
    assert service.credit(token) == {"credit": 100}
    reader = Reader(service.data / "ledger.db")
    events = reader.page(service.openid_of("alice"), microseconds_now()).events
    assert [event.type for event in events] == ["CreditGranted", "UserRegistered"]
    reader.close()
