"""One turn at a time on what the stages of one process share: torch's default random generators, the functions that
transformers replaces while it loads a model, and the capture of a CUDA graph, during which no other thread should use
the device."""

import threading

TURN = threading.RLock()
"""Held by a thread while it loads a model, while it seeds a default generator and draws from it, while it captures, and
while it gives the device work that a capture in another thread must not meet. Without other stages in the process it is
free."""
