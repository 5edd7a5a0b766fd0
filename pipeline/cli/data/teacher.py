"""The teacher that a new recipe is to name: what its files say, without its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RequestError, first_line, refused
from pipeline.graph.external.inputs import model_directory
from pipeline.graph.external.model_configs import check_classifier, check_config, check_cut
from pipeline.recipe.starter.settings import Teacher
from stages.files.tokenizer_files import TOKENIZER_PATTERNS
from stages.models.heads import check_head, head_of, trained_with_mean_pooling
from stages.models.label_order import label_order
from stages.models.positions import position_limit
from stages.models.shape import config_of, shape_of
from stages.specs.student import Head
from stages.specs.tasks import Task

FIELD = "--teacher"


@dataclass(frozen=True, slots=True)
class TeacherFiles:
    """The model that a recipe is to name, and a directory with its configuration and its tokenizer."""

    name: str
    directory: Path

    @property
    def positions(self) -> int | None:
        """The most tokens that the model reads; None for no bound."""
        return position_limit(config_of(self.directory))

    def for_task(self, task: Task) -> Teacher:
        """What a recipe for ``task`` is written by. Raises RequestError for a model that cannot be a teacher."""
        with refused(FIELD):
            config = config_of(self.directory)
            model_type = str(config.get("model_type"))
            check_config(config, self.name)
            check_classifier(config, self.name)
            shape = shape_of(config, self.name)
        # The outputs of a regression have no names by which to see that they are the scores of this task.
        finetuned = task.labels is not None and _fits(lambda: label_order(config, task, None))
        head: Head | None = None
        if not finetuned and trained_with_mean_pooling(self.directory) and head_of(config) == "cls":
            head = "mean" if _fits(lambda: check_head(model_type, "mean")) else None
        return Teacher(
            name=self.name,
            layers=shape.layers,
            width=shape.width,
            head=head,
            finetuned=finetuned,
            can_be_cut=shape.layers > 1 and _fits(lambda: check_cut(model_type, [1])),
            keeps_first=not _fits(lambda: check_cut(model_type, [2])),
        )


def teacher_files(name: str) -> TeacherFiles:
    """The files of a model: a directory, an installed package, or the hub, from which its weights are not fetched.
    Raises RequestError."""
    with refused(FIELD):
        directory = model_directory(name)
    if directory is None:
        if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or Path(name).is_dir():
            raise RequestError(
                f"{FIELD}: {name} has no config.json; give a model directory, or the name of a model on the hub"
            )
        directory = _fetched(name)
    return TeacherFiles(name, directory)


def _fetched(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of its HTTP library

    patterns = ["config.json", "1_Pooling/config.json", *TOKENIZER_PATTERNS]
    try:
        directory = Path(snapshot_download(repository, allow_patterns=patterns))
    except (HTTPError, OSError, ValueError) as error:
        raise RequestError(
            f"{FIELD}: {repository} cannot be found on the hub ({first_line(error)}); give a directory, or leave "
            f"{FIELD} out"
        ) from error
    if not (directory / "config.json").exists():
        raise RequestError(f"{FIELD}: {repository} has no config.json on the hub; give the name of an encoder")
    return directory


def _fits(check: Callable[[], object]) -> bool:
    """Whether a check raises no ValueError."""
    try:
        check()
    except ValueError:
        return False
    return True
