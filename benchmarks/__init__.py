"""What Stillhouse costs, each figure beside one that was written without it. ``python -m benchmarks``."""

import os

# Read when torch is loaded. Threads that wait by spinning take the core from whoever else is measured.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
