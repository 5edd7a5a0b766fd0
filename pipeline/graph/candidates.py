"""Nodes for texts beside a task's own rows: candidate tables, their texts, and teachers' outputs on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.artifact_sizes import outputs_of_row, store_bytes
from pipeline.graph.context import Model
from pipeline.graph.external.inputs import data_file
from pipeline.graph.nodes import Edge, ExternalInput, Node, Quantity
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.teacher_outputs import ModelOutputs
from pipeline.graph.unlabelled.bank import BankNodes
from pipeline.recipe import TEACHER, CandidateMaker
from stages.outputs.sizes import Extent
from stages.rewriting.synonyms import read_synonyms
from stages.rewriting.vector_file import check_vectors
from stages.specs.axes.data import WithCandidates
from stages.specs.base import Spec
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, Sides, TransferSpec, UnlabelledSpec
from stages.specs.teacher import TeachSpec

PAIRS: Sides = "either"
"""Which text of a pair is replaced unless the recipe says so."""

RERANK_FACTOR = 4
"""Candidates that are looked for, for each that is kept, where filtering or re-ranking removes some."""

FILES: Mapping[str, Callable[[Path], object]] = {"synonyms": read_synonyms, "vectors": check_vectors}
"""The inputs of rewriting methods that are files and not models, with the function that reads one and raises ValueError
for a file of another form."""

Inputs = dict[str, Edge | ExternalInput]


@dataclass(frozen=True)
class CandidateNodes:
    """The candidate nodes of one task. Methods take the name of an entry of the recipe's ``candidates``."""

    starting_points: StartingPoints

    def inputs(
        self, name: str, tokenizer: ExternalInput, by: Sequence[tuple[str, Model]]
    ) -> tuple[Edge, Edge, list[Edge]]:
        """A student's inputs: the candidate table, its texts tokenised by ``tokenizer``, and for each of its teachers
        (name, model) the store of its outputs on them."""
        stores = [Edge(self.store(name, teacher, model)) for teacher, model in by]
        return Edge(self.table(name)), Edge(self.rows(name, tokenizer)), stores

    # --- the table ---

    def table(self, name: str) -> Node:
        """The table that students read: filtered or re-ranked if the recipe wants that, else the raw one."""
        return self._reranked(name) if self._maker(name).reranked else self._raw_table(name)

    def _maker(self, name: str) -> CandidateMaker:
        return self.starting_points.recipe.makers[name]

    def _num_kept(self, name: str) -> int:
        """Candidates kept for a row: ``k`` of the recipe, or else the largest that a method uses."""
        given = self._maker(name).k
        if given is not None:
            return given
        learners = (learner for _, learner in self.starting_points.recipe.learners())
        taken = (learner.method.data for learner in learners if learner.candidates == name)
        return max((data.k for data in taken if isinstance(data, WithCandidates)), default=1)

    def _num_found(self, name: str) -> int:
        """Candidates looked for, for a row. Raises RequestError if they are fewer than are kept."""
        maker, k = self._maker(name), self._num_kept(name)
        if maker.found is not None and maker.found < k:
            raise RequestError(
                f"candidates.{name}.found: {maker.found}, but {k} are kept for each row; give {k} or more"
            )
        return (maker.found or RERANK_FACTOR * k) if maker.reranked else k

    def _raw_table(self, name: str) -> Node:
        return self.starting_points.context.get_or_create(
            self._node_name("candidates", name), lambda: self._new_raw_table(name)
        )

    def _new_raw_table(self, name: str) -> Node:
        starting_points, maker, task = self.starting_points, self._maker(name), self.starting_points.recipe.task
        corpus = starting_points.corpus(starting_points.teacher().tokenizer)
        inputs: Inputs = {"corpus": Edge(corpus)}
        k, sides = self._num_found(name), maker.sides or (PAIRS if task.pair else "first")
        with refused(f"task {starting_points.task}, candidates.{name}"):
            match maker.by:
                case "neighbours":
                    bank = self._bank()
                    joined = len(bank.given.cleaning.text) == 2
                    spec: Spec = NeighboursSpec(
                        k=k,
                        sides="joined" if joined else sides,
                        min_distance=0.0 if maker.rerank else maker.min_distance,
                        max_distance=1.0 if maker.rerank else maker.max_distance,
                        random=maker.random,
                        seed=maker.seed if maker.random else 0,
                    )
                    index, encoder = bank.index(), bank.encoder()
                    inputs |= {"bank": Edge(bank.bank()), "embeddings": Edge(bank.embeddings())}
                    inputs |= {} if index is None else {"index": Edge(index)}
                    inputs |= {} if encoder is None else {"encoder": encoder.source}
                case "transfer":
                    spec = TransferSpec(k=k, seed=maker.seed)
                    inputs["bank"] = Edge(self._bank().bank())
                case _:
                    spec = RewriteSpec.model_validate({"how": maker.how, "k": k, "sides": sides, "seed": maker.seed})
                    inputs |= self._rewriter_inputs(name, maker)
        if isinstance(spec, NeighboursSpec | TransferSpec):
            self._warn_of_small_bank(name, k, spec.sides if isinstance(spec, NeighboursSpec) else "first")
        rows = starting_points.rows.distinct()
        return Node(self._node_name("candidates", name), "candidates", starting_points.task, spec, inputs, rows=rows)

    def _warn_of_small_bank(self, name: str, k: int, sides: Sides) -> None:
        """Warn where the bank is known to have fewer texts than candidates are wanted for each row. Texts that the task
        is evaluated on are known only in the run, which warns of them."""
        texts = self._bank().bank().rows.value
        most = None if texts is None else 2 * texts if sides == "either" else texts
        if most is not None and most < k:
            self.starting_points.context.warn(
                f"task {self.starting_points.task}, candidates.{name}: {k} candidates are wanted for each row, but the "
                f"bank has at most {texts:,} texts, so that no row has more than {most}; enlarge the bank, or set k to "
                f"{most}"
            )

    def _bank(self) -> BankNodes:
        bank = self.starting_points.recipe.bank
        assert bank is not None, "a recipe without one is refused when it is read"
        return BankNodes(self.starting_points.context, bank)

    def _rewriter_inputs(self, name: str, maker: CandidateMaker) -> Inputs:
        """The models and files of a rewriting method. Raises RequestError."""
        found: Inputs = {}
        for role, given in maker.inputs.items():
            where = f"candidates.{name}.{role}"
            if role not in FILES:
                found[role] = self.starting_points.context.rewriting_model(given, maker.by, where)
                continue
            if not Path(given).is_file():
                raise RequestError(
                    f"{where}: {given} is not a file; give a path, absolute or relative to the current folder"
                )
            with refused(where):
                FILES[role](Path(given))
            found[role] = data_file(Path(given), self.starting_points.context.digests)
        return found

    def _reranked(self, name: str) -> Node:
        starting_points, maker = self.starting_points, self._maker(name)
        full, raw, teacher = self._node_name("rerank", name), self._raw_table(name), starting_points.teacher()
        stored = starting_points.recipe.store
        if maker.rerank and stored.layers != "all" and teacher.shape.layers not in stored.layers:
            raise RequestError(
                f"candidates.{name}.rerank: needs the teacher's last layer, {teacher.shape.layers}, but store.layers "
                f"is {list(stored.layers)}; add it there"
            )
        spec = RerankSpec(
            k=self._num_kept(name),
            rerank=maker.rerank,
            pooling="cls" if stored.pooling == "cls" else "mean",
            min_distance=maker.min_distance if maker.rerank else 0.0,
            max_distance=maker.max_distance if maker.rerank else 1.0,
            confidence=maker.confidence or (0.0, 1.0),
            balance=maker.balance,
        )
        inputs: Inputs = {
            "candidates": Edge(raw),
            "outputs": Edge(ModelOutputs(starting_points).store(TEACHER, teacher)),
            "candidate_outputs": Edge(self.store(name, TEACHER, teacher)),
        }
        return starting_points.context.get_or_create(
            full, lambda: Node(full, "candidates", starting_points.task, spec, inputs, rows=raw.rows)
        )

    # --- the table's texts, and teachers' outputs on them ---

    def rows(self, name: str, tokenizer: ExternalInput) -> Node:
        """The texts of the raw table, tokenised."""
        starting_points, raw, corpus = (
            self.starting_points,
            self._raw_table(name),
            self.starting_points.corpus(tokenizer),
        )
        other = raw.inputs["corpus"] != Edge(corpus)
        full = self._node_name(f"unlabelled/{tokenizer.identity[:8]}" if other else "unlabelled", name)
        inputs: Inputs = {"candidates": Edge(raw), "corpus": Edge(corpus)}
        rows = self._texts(name, raw)
        return starting_points.context.get_or_create(
            full, lambda: Node(full, "candidates", starting_points.task, UnlabelledSpec(), inputs, rows=rows)
        )

    def _texts(self, name: str, raw: Node) -> Quantity:
        return (
            Quantity.unknown(raw.name)
            if raw.rows.value is None
            else Quantity.at_most(raw.rows.value * self._num_found(name))
        )

    def store(self, name: str, teacher: str, model: Model) -> Node:
        """The outputs of a model on the texts: logits, and the teacher's last layer if re-ranking needs it."""
        starting_points, block = self.starting_points, self.starting_points.recipe.store
        rows = self.rows(name, model.tokenizer)
        last = self._maker(name).rerank and teacher == TEACHER
        layers = (model.shape.layers,) if last else ()
        spec = block.as_spec(TeachSpec, layers=layers, splits=("candidates",), label_order=model.label_order)
        extent = Extent(len(spec.layers), model.shape.width, outputs_of_row(starting_points.recipe), model.shape.heads)
        known = rows.rows.value
        size = Quantity.unknown(rows.name) if known is None else Quantity.at_most(store_bytes(spec, extent, known))
        full = self._node_name("teach" if teacher == TEACHER else f"teach/{teacher}", name)
        inputs: Inputs = {"corpus": Edge(rows), "model": model.source}
        gate, task = ModelOutputs(starting_points).gate(teacher), starting_points.task
        return starting_points.context.get_or_create(
            full,
            lambda: Node(full, "teach", task, spec, inputs, rows=rows.rows, bytes=size, extent=extent, gate=gate),
        )

    def _node_name(self, what: str, name: str) -> str:
        target = name if what in ("candidates", "rerank") else f"candidates:{name}"
        return f"{what}/{target}@{self.starting_points.task}"
