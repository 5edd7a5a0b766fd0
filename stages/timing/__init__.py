"""Short measurements of what the work of the stages costs on this machine, from which a plan estimates a run's time."""
