"""Where each number comes from: the artifacts behind the rows of a report, and the commands that make them again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.graph.nodes import Edge, Node
from pipeline.report.means import grouped
from pipeline.report.page.score_tables import anchor_of
from pipeline.report.rows import ReportRow, Results


@dataclass(frozen=True, slots=True)
class ResultCommands:
    """The command lines for a recipe: its file as the user gave it, and the options that lead to these results."""

    recipe: str
    sets: tuple[str, ...] = ()
    storage: str | None = None
    baseline: str | None = None
    last_epoch: bool = False

    def run(self, stage: str | None = None) -> str:
        """The run that makes the results; with ``stage``, that which makes this stage again, and what depends on it."""
        return self._line("run", self.recipe, *self._sets, *self._storage, *(("--stage", stage) if stage else ()))

    def report(self, form: str) -> str:
        """The report with the same numbers in the format ``form``."""
        compared = ("--baseline", self.baseline) if self.baseline else ()
        last = ("--last-epoch",) if self.last_epoch else ()
        return self._line("report", self.recipe, *self._sets, *self._storage, *compared, *last, "--format", form)

    def show(self, key: str) -> str:
        """The command that prints the artifact with a key."""
        return self._line("show", key[:12], *self._storage)

    @property
    def _sets(self) -> Sequence[str]:
        return [word for change in self.sets for word in ("--set", change)]

    @property
    def _storage(self) -> Sequence[str]:
        return ("--storage", self.storage) if self.storage else ()

    def _line(self, *words: str) -> str:
        return shlex.join(("stillhouse", *words))


@dataclass(frozen=True, slots=True)
class Figure:
    """A score x 100 of a model, after the selected epoch and after the last; None where it has none."""

    split: str
    metric: str
    score: float | None
    last_epoch_score: float | None


@dataclass(frozen=True, slots=True)
class ModelLineage:
    """The model of one seed: the key of the artifact that holds it, the artifacts that this was made of (name of the
    input and name of the node, or of the file from outside), and its figures."""

    seed: int
    status: str
    key: str
    path: str | None
    best_epoch: int | None
    learning_rate: float | None
    made_of: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class MethodLineage:
    """The models of a task, method and student. ``command`` makes them again; ``anchor`` is the element's id."""

    anchor: str
    task: str
    method: str
    student: str
    command: str
    models: tuple[ModelLineage, ...]


def origins(results: Results, rows: Sequence[ReportRow], commands: ResultCommands) -> tuple[MethodLineage, ...]:
    """The origin of every row of a report but those of means over tasks."""
    trained: dict[tuple[str, str, str, int | None], Node] = {}
    for node in results.evaluations:
        given, subject = node.inputs.get("model"), node.subject
        assert subject is not None
        trained[node.task, subject.method, subject.student, subject.seed] = (
            given.source if isinstance(given, Edge) else node
        )
    of_seeds = [row for row in rows if row.seed is not None]
    found = []
    for group in grouped(of_seeds, lambda row: (row.task, row.method, row.student)):
        first = group[0]
        node = trained[first.task, first.method, first.student, first.seed]
        models = grouped(group, lambda row: row.seed)
        found.append(
            MethodLineage(
                anchor_of(first.task, first.method, first.student),
                first.task,
                first.method,
                first.student,
                commands.run(stage_of(node, len(models) > 1)),
                tuple(_model(one, trained[first.task, first.method, first.student, one[0].seed]) for one in models),
            )
        )
    return tuple(found)


def stage_of(node: Node, all_seeds: bool) -> str:
    """The ``--stage`` that names a node, or with ``all_seeds`` the nodes that differ from it in their seed."""
    name, _, task = node.name.partition("@")
    return f"{name.rpartition('/')[0] if all_seeds and '/' in name else name}@{task}"


def _model(rows: Sequence[ReportRow], node: Node) -> ModelLineage:
    first = rows[0]
    assert first.seed is not None
    made_of = tuple(
        (name, given.source.name if isinstance(given, Edge) else given.about) for name, given in node.inputs.items()
    )
    figures = tuple(Figure(row.split, row.metric, row.score, row.last_epoch_score) for row in rows)
    return ModelLineage(
        first.seed,
        first.status,
        first.key,
        first.artifact,
        first.best_epoch,
        first.learning_rate,
        made_of,
        figures,
    )
