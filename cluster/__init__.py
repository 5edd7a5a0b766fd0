"""Where work runs: on Ray, or in this process. No other package imports Ray."""

import os

# "0" keeps a Ray that is started here on loopback, on any platform. Ray reads it when it is imported.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
