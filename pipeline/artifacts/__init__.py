"""Artifacts: records, attempts, leases, heartbeats, and what no recipe needs."""
