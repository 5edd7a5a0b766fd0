"""Artifacts: their records, attempts at building them, leases and heartbeats, and which of them no recipe needs."""
