"""Surveys of tasks' data, kept in the storage by the content of the data, so that a plan reads no data twice."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from stages.atomic import replacing
from stages.corpus.survey import Survey


@dataclass(frozen=True, slots=True)
class KeptSurveys:
    """The surveys in a folder of this machine, a file each. They are only a cache: one that cannot be read is made
    again, and none is written where the folder cannot be."""

    folder: Path

    def read(self, identity: str) -> Survey | None:
        """The survey of the data of this identity; None if there is none that can be read."""
        with suppress(OSError, ValidationError, UnicodeDecodeError):
            return Survey.model_validate_json(self._path(identity).read_text("utf-8"))
        return None

    def write(self, identity: str, found: Survey) -> None:
        """Keep a survey, if the folder can be written."""
        existing = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        if not os.access(existing, os.W_OK):
            return
        with suppress(OSError):
            self._path(identity).parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(identity)) as draft:
                draft.write_text(found.model_dump_json(indent=1) + "\n", "utf-8")

    def _path(self, identity: str) -> Path:
        return self.folder / "surveys" / f"{identity}.json"
