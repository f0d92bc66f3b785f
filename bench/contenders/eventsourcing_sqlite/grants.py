"""Grants a second of the `eventsourcing` library on SQLite: grants.py DATABASE BATCH SECONDS.

An account is an aggregate; a grant loads it, changes it and saves it, as the library's documentation does. In a
batch, so many accounts are saved in one transaction. Recorder, mapper and journal (WAL) are the library's
defaults; synchronous=FULL is SQLite's own default, and is checked. Prints one JSON object.
"""

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

ACCOUNTS: Final = 1000
_FULL: Final = 2


class Account(Aggregate):
    @event("Registered")
    def __init__(self, openid: str) -> None:
        self.openid = openid
        self.credit = 0

    @staticmethod
    def create_id(openid: str) -> UUID:
        return uuid5(NAMESPACE_URL, f"/accounts/{openid}")

    @event("CreditGranted")
    def grant(self, amount: int, reason: str, key: str) -> None:
        self.credit += amount


def main(database: str, batch: int, seconds: float) -> None:
    with closing(sqlite3.connect(database)) as connection:
        if connection.execute("PRAGMA synchronous").fetchone() != (_FULL,):
            sys.exit("this SQLite does not sync each commit by default")
    environ = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": database}
    application = Application[UUID]({**os.environ, **environ})
    accounts = [Account(f"bench{number}") for number in range(ACCOUNTS)]
    application.save(*accounts)
    ids = [account.id for account in accounts]
    grants, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        some = [application.repository.get(ids[(grants + n) % ACCOUNTS]) for n in range(batch)]
        for account in some:
            account.grant(1, "benchmark", f"key{grants}")
            grants += 1
        application.save(*some)
    credit = sum(application.repository.get(one).credit for one in ids)
    application.close()
    print(json.dumps({"grants": grants, "seconds": elapsed, "credit": credit}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
