"""The note of the last run of a recipe's name: the file that it was of, and the ``--set`` with which it ran.

It is the document ``.named/<recipe>/last-run.json``. A report of the recipe takes the same ``--set`` from it, and a
plan finds out by it that another recipe has the same name. No result depends on it: a damaged note counts as absent.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from pipeline.artifacts.record import NAMED
from pipeline.storage import Storage

LAST_RUN = "last-run.json"


@dataclass(frozen=True, slots=True)
class LastRun:
    """The last run of a recipe's name. ``file`` is the absolute path of the recipe on the machine of the user, also
    for a run that was submitted. ``sha256`` is that of its keys and values, without the changes ``sets``. ``began`` is
    the local time at which it began to build, or found nothing to build."""

    file: str
    sha256: str
    sets: tuple[str, ...]
    began: str


def note_name(recipe: str) -> str:
    """The name of the note in a storage. No node's name ends like this."""
    return f"{NAMED}/{recipe}/{LAST_RUN}"


def read_last_run(storage: Storage, recipe: str) -> LastRun | None:
    """The last run of a recipe of this name; None if none is known."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        document = json.loads(storage.read(note_name(recipe)) or "null")
        texts = (document["file"], document["sha256"], document["began"], *document["sets"])
        if all(isinstance(text, str) for text in texts) and isinstance(document["sets"], list):
            return LastRun(document["file"], document["sha256"], tuple(document["sets"]), document["began"])
    return None


def write_last_run(storage: Storage, recipe: str, run: LastRun) -> None:
    """Write the note, in place of a former one. Nothing happens where the storage cannot be written."""
    with suppress(OSError):
        storage.write(note_name(recipe), json.dumps(asdict(run), indent=1) + "\n")
