"""What Stillhouse costs, beside programs written without it. Run by ``python -m benchmarks``."""

import os

# Read when torch is loaded. Threads that wait by spinning would take the core from the other program that is measured.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
