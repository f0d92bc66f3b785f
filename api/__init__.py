"""HTTP to the ledger and back: login, sessions and profiles. Nothing about credit is decided here.

One request from the wire to the disk: `app` routes it, `tutorial` or `me` reads it (with `bodies` and
`callers`), `group_commit` gathers what is waiting, `ledger.committer` writes it, `problems` says no.
"""
