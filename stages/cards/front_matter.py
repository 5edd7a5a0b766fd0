"""The front matter of model cards: YAML between two lines of ``---``, as model hubs read it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from stages.specs.tasks import Task

Scores = Mapping[str, Mapping[str, float]]
"""Split -> metric -> score x 100."""

HUB_METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "f1": "f1",
    "macro_f1": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "entity_f1": "f1",
    "entity_precision": "precision",
    "entity_recall": "recall",
}
"""The names that the hub has for metrics."""

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
"""The name of a model on the hub: OWNER/NAME, or NAME."""
CARD = re.compile(r"---\n(?P<front>.*?)^---\n(?P<body>.*)", re.DOTALL | re.MULTILINE)
TAGS = ("knowledge-distillation", "stillhouse")


@dataclass(frozen=True, slots=True)
class BaseModel:
    """What a card says of the model that another one was made of, as far as it is known: its name on the hub, its
    licence, and its languages. Each is None where it is not known."""

    name: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: str | list[str] | None = None


def read_base(directory: Path, name: str) -> BaseModel:
    """The model in ``directory``, which a student starts from. ``name`` is its name in the recipe or in the graph. Its
    licence and languages are those of its own card; so is its ``base_model``, where it is no model of the hub itself
    but was made of one."""
    front = front_matter_of(directory)
    texts = {
        field: value
        for field in ("license", "license_name", "license_link")
        if isinstance(value := front.get(field), str)
    }
    above = front.get("base_model")
    own = name if is_repository(name) and not _made_here(directory) else above if isinstance(above, str) else None
    return BaseModel(name=own, language=_languages(front.get("language")), **texts)


def is_repository(name: str) -> bool:
    """Whether a name in a recipe is that of a model on the hub, and not the path of a directory."""
    return REPOSITORY.fullmatch(name) is not None and not Path(name).exists()


def _made_here(directory: Path) -> bool:
    """Whether a model is an artifact, final or after an epoch: its name is that of a node, then."""
    return any((above / "lineage.json").is_file() for above in (directory.parent, directory.parent.parent))


def front_matter_of(directory: Path) -> Mapping[str, object]:
    """The front matter of the ``README.md`` in a directory; {} where there is none that can be read."""
    try:
        match = CARD.match((directory / "README.md").read_text("utf-8"))
        found = yaml.safe_load(match["front"]) if match else None
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def front_matter(title: str, library: str, task: Task, base: BaseModel, scores: Scores) -> str:
    """The lines between and with the two of ``---``, for a classifier with these scores."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type=task.name,
            dataset_name=task.name,
            dataset_split=split,
            metric_type=HUB_METRICS[metric],
            metric_name=f"{split} {metric} x 100",
            metric_value=round(value, 2),
        )
        for split, values in scores.items()
        for metric, value in values.items()
    ]
    data = ModelCardData(
        base_model=base.name,
        language=base.language,
        library_name=library,
        license=base.license,
        license_name=base.license_name,
        license_link=base.license_link,
        metrics=sorted({HUB_METRICS[metric] for metric in task.metrics}),
        pipeline_tag="token-classification" if task.kind.has_entries else "text-classification",
        tags=list(TAGS),
        model_name=title if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _languages(value: object) -> str | list[str] | None:
    """The codes of languages as a card has them: one, or a list."""
    if isinstance(value, str):
        return value
    return [str(code) for code in value] if isinstance(value, list) else None
