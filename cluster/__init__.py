"""Where work runs: Ray, made small. Only this package imports Ray."""

import os

# "0" keeps a Ray of our own on loopback, whatever the platform. Ray reads it when it is imported.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
