"""The state of a run, shown as terminal, HTML page, status file and event log."""
