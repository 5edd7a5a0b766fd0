"""``stillhouse doctor``: what this machine has, and what would stop or slow down a run on it."""
