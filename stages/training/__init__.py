"""Train one student: the loop, its losses, its checkpoints and its curves."""
