"""The credit ledger as a library: an append-only log of events per openid, and what is folded from it.

Read it in this order: `events`, `commands`, `account`, `decide` (pure values and rules), `chain` (what is
hashed), `execute` (the one write path), `log` (its SQLite), `committer` (group commit), then the readers
`statement`, `verify` and `replay`. No HTTP, no environment variables, no WeChat.
"""
