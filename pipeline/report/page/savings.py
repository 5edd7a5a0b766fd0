"""What the stores of teachers' outputs saved: rows that teachers read once, and would have read in every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.graph.nodes import Edge, Node, source_key
from pipeline.report.rows import Results
from stages.specs.axes.training import Annealing, Progressive
from stages.specs.student import DistilSpec
from stages.specs.teacher import ProbeSpec, TeachSpec


@dataclass(frozen=True, slots=True)
class Savings:
    """``stores`` stores of ``bytes`` bytes hold what teachers computed for ``rows_read`` rows, each once, in
    ``seconds`` seconds. ``trainings`` trainings read them. Without stores, teachers would have read ``rows_without``
    rows in these trainings: each row of train in each epoch that follows a teacher, and each candidate as often as it
    was used. ``live_rows`` rows were read by teachers within trainings, because a generator wrote them there."""

    stores: int
    bytes: int
    seconds: float
    rows_read: int
    rows_without: int
    trainings: int
    live_rows: int

    @property
    def share_saved(self) -> float:
        """The share of the teachers' work that the stores saved, 0 to 1."""
        return max(0.0, 1 - self.rows_read / self.rows_without) if self.rows_without else 0.0


def savings(results: Results) -> Savings | None:
    """The savings in what has been built of a recipe; None where no training reads a store."""
    records = results.records
    stores = [node for node in results.graph.nodes if isinstance(node.spec, TeachSpec) and records[node.key]]
    read: dict[tuple[str, str], int] = {}
    seconds, size = 0.0, 0
    for node in stores:
        record = records[node.key]
        assert record is not None
        # Several parts of one store are computed from the same rows; a single pass would give all of them.
        place = source_key(node.inputs["model"]), source_key(node.inputs["corpus"])
        read[place] = max(read.get(place, 0), record.rows)
        seconds, size = seconds + record.seconds, size + record.bytes
    rows_without = trainings = live = 0
    for node in results.graph.nodes:
        record = records[node.key]
        if isinstance(node.spec, DistilSpec) and record is not None:
            live += int(record.facts.get("live_teacher_rows", 0))
            teachers = teachers_of_train(node)
            if teachers:
                trainings += 1
                # Progressive training follows its teachers one after the other, all others follow their mean.
                passes = 1 if isinstance(node.spec.method.training, Progressive) else teachers
                rows_without += passes * record.rows * taught_epochs(node.spec)
                rows_without += passes * int(record.facts.get("candidates", 0))
    if not trainings:
        return None
    return Savings(len(stores), size, seconds, sum(read.values()), rows_without, trainings, live)


def teachers_of_train(training: Node) -> int:
    """The number of models whose stored outputs for the rows of train a training reads."""
    corpus = source_key(training.inputs["corpus"])
    return len(
        {
            source_key(store.inputs["model"])
            for store in _stores_below(training)
            if source_key(store.inputs["corpus"]) == corpus
        }
    )


def _stores_below(training: Node) -> Iterator[Node]:
    for given in training.inputs.values():
        if isinstance(given, Edge):
            below = given.source.sources if isinstance(given.source.spec, ProbeSpec) else (given.source,)
            yield from (node for node in below if isinstance(node.spec, TeachSpec))


def taught_epochs(spec: DistilSpec) -> int:
    """The epochs of a training in which a teacher is followed: without the second phase of a training whose second
    phase is of labels alone."""
    training, epochs = spec.method.training, spec.train.epochs
    if isinstance(training, Annealing | Progressive):
        return training.phases(epochs)[0].epochs
    return epochs
