"""Surveys of tasks' data, kept in the storage by the content of the data, so that a plan reads no data twice."""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from stages.atomic import replacing
from stages.corpus.survey import TaskSurvey


@dataclass
class KeptSurveys:
    """The surveys in a folder of this machine, a file each, and those that were made since (``new``). They are only a
    cache: one that cannot be read is made again, and none is written where the folder cannot be."""

    folder: Path
    new: dict[str, TaskSurvey] = field(default_factory=dict)

    def read(self, identity: str) -> TaskSurvey | None:
        """The survey of the data of this identity; None if there is none that can be read."""
        with suppress(OSError, ValidationError, UnicodeDecodeError):
            return self.new.get(identity) or TaskSurvey.model_validate_json(self._path(identity).read_text("utf-8"))
        return None

    def add(self, identity: str, found: TaskSurvey) -> None:
        """Keep a survey, which ``save`` writes."""
        self.new[identity] = found

    def save(self) -> None:
        """Write the new surveys, as far as that is possible."""
        with suppress(OSError):
            for identity, found in self.new.items():
                self._path(identity).parent.mkdir(parents=True, exist_ok=True)
                with replacing(self._path(identity)) as draft:
                    draft.write_text(found.model_dump_json(indent=1) + "\n", "utf-8")
            self.new.clear()

    def _path(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"
