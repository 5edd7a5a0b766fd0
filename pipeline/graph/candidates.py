"""Texts beside a task's own: the bank, its embeddings and index; candidates for rows of train; what is said of them.

The bank knows no task: its nodes are one for the whole recipe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.context import GraphContext, Model
from pipeline.graph.external_inputs import data_file
from pipeline.graph.nodes import Edge, ExternalInput, Node, Quantity
from pipeline.graph.starting_points import StartingPoints
from pipeline.graph.store_size import store_bytes
from pipeline.graph.teacher_outputs import ModelOutputs
from pipeline.recipe import TEACHER, Bank, CandidateMaker, MethodUse, ModelNode
from stages.bank.sources import spans, text_files
from stages.corpus.task_files import count_rows
from stages.models.shape import config_of
from stages.outputs.sizes import Extent
from stages.specs.bank import HubTexts
from stages.specs.base import Spec
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, Sides, TransferSpec, UnlabelledSpec
from stages.specs.corpus import Files
from stages.specs.method import WithCandidates
from stages.specs.retrieval import ModelEncoder
from stages.specs.teacher import TeachSpec

PAIRS: Sides = "either"
"""What of a pair is varied where a recipe does not say."""

MORE = 4
"""So many times as many candidates are looked for as are kept, where the teacher leaves some out."""

KEY_BYTES = 16
ON_DISK = 2
"""Bytes of a number of a vector."""

Inputs = dict[str, Edge | ExternalInput]


@dataclass(frozen=True)
class BankNodes:
    """The bank of a recipe and what is made of it alone."""

    context: GraphContext
    given: Bank

    def bank(self) -> Node:
        return self.context.once("bank", self._bank)

    def _bank(self) -> Node:
        given, context = self.given, self.context
        spec, inputs = given.cleaning, Inputs()
        rows = Quantity.unknown("bank")
        if given.hub is not None:
            commit = context.pins.commit(given.hub.repository, "dataset", "bank.hub")
            source = HubTexts(revision=commit, **given.hub.model_dump())
            spec = spec.model_copy(update={"source": source})
        elif given.generated is not None:
            spec = spec.model_copy(update={"source": given.generated})
            rows = Quantity.at_most(given.generated.rows)
        else:
            with refused("bank.files"):
                files = text_files([Path(name) for name in given.files])
                counts = [count_rows(path) for path in files]
                for path in files:
                    spans(path, spec.text)
            spec = spec.model_copy(update={"source": Files()})
            inputs = {f"files/{number}": data_file(path, context.digests) for number, path in enumerate(files)}
            if spec.sentences is None and None not in counts:
                rows = Quantity.at_most(sum(count for count in counts if count is not None))
        return Node("bank", "bank", "", spec, inputs, rows=rows)

    def encoder(self) -> Model | None:
        """The sentence encoder; None for TF-IDF."""
        if self.given.encoder is None:
            return None
        found, encoder = self.context.outside(self.given.encoder, "bank.encoder"), self.given.embedding.encoder
        assert isinstance(found.source, ExternalInput) and isinstance(encoder, ModelEncoder)
        most = config_of(found.source.path).get("max_position_embeddings")
        if isinstance(most, int) and encoder.max_length > most:
            raise RequestError(
                f"bank.max_length: {encoder.max_length}, but {self.given.encoder} has {most} positions; give no more"
            )
        return found

    def embeddings(self) -> Node:
        return self.context.once("embed", self._embeddings)

    def _embeddings(self) -> Node:
        bank, encoder = self.bank(), self.encoder()
        inputs: Inputs = {"bank": Edge(bank)}
        size = Quantity.unknown("embed")
        if encoder is not None:
            inputs["encoder"] = encoder.source
            if bank.rows.value is not None:
                size = Quantity.at_most(bank.rows.value * (ON_DISK * encoder.shape.width + KEY_BYTES))
        return Node("embed", "embed", "", self.given.embedding, inputs, rows=bank.rows, bytes=size)

    def index(self) -> Node | None:
        """None for TF-IDF, which is searched as it is."""
        if not isinstance(self.given.embedding.encoder, ModelEncoder):
            return None
        if find_spec("faiss") is None:
            raise RequestError("bank: neighbours need FAISS; install the extra cpu or gpu, or use encoder: tfidf")
        embeddings = self.embeddings()
        inputs: Inputs = {"embeddings": Edge(embeddings)}
        return self.context.once(
            "index", lambda: Node("index", "index", "", self.given.index, inputs, rows=embeddings.rows)
        )


@dataclass(frozen=True)
class CandidateNodes:
    """The candidates of one task, by the name of their maker."""

    starting_points: StartingPoints

    def inputs(
        self, name: str, tokenizer: ExternalInput, by: Sequence[tuple[str, Model]]
    ) -> tuple[Edge, Edge, list[Edge]]:
        """The candidate table, its texts in the tokens of ``tokenizer``, and what each of the teachers, told with their
        names, says of them."""
        stores = [Edge(self.store(name, speaker, model)) for speaker, model in by]
        return Edge(self.table(name)), Edge(self.rows(name, tokenizer)), stores

    # --- the table ---

    def table(self, name: str) -> Node:
        """What students read: as it was made, or sifted."""
        return self._reranked(name) if self._maker(name).reranked else self._made(name)

    def _maker(self, name: str) -> CandidateMaker:
        return self.starting_points.recipe.makers[name]

    def _k(self, name: str) -> int:
        """The most that a method takes."""
        given = self._maker(name).k
        if given is not None:
            return given
        recipe = self.starting_points.recipe
        models = [model for model in recipe.models.values() if isinstance(model, ModelNode)]
        users: list[MethodUse | ModelNode] = [*recipe.methods, *models]
        taken = (use.method.data for use in users if use.candidates == name)
        return max((data.k for data in taken if isinstance(data, WithCandidates)), default=1)

    def _found(self, name: str) -> int:
        maker, k = self._maker(name), self._k(name)
        if maker.found is not None and maker.found < k:
            raise RequestError(f"candidates.{name}.found: {maker.found}, but {k} a row are kept; look for no fewer")
        return (maker.found or MORE * k) if maker.reranked else k

    def _made(self, name: str) -> Node:
        return self.starting_points.context.once(self._named("candidates", name), lambda: self._made_anew(name))

    def _made_anew(self, name: str) -> Node:
        starting_points, maker, task = self.starting_points, self._maker(name), self.starting_points.recipe.task
        corpus = starting_points.corpus(starting_points.teacher().tokenizer)
        inputs: Inputs = {"corpus": Edge(corpus)}
        k, sides = self._found(name), maker.sides or (PAIRS if task.pair else "first")
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
                    inputs |= self._given(name, maker)
        rows = starting_points.rows.train(corpus)
        return Node(self._named("candidates", name), "candidates", starting_points.task, spec, inputs, rows=rows)

    def _bank(self) -> BankNodes:
        bank = self.starting_points.recipe.bank
        assert bank is not None, "a recipe without one is refused while it is read"
        return BankNodes(self.starting_points.context, bank)

    def _given(self, name: str, maker: CandidateMaker) -> Inputs:
        """The models and files that rewrite."""
        found: Inputs = {}
        for role, given in maker.given.items():
            where = f"candidates.{name}.{role}"
            if role != "synonyms":
                found[role] = self.starting_points.context.weights(given, where)
                continue
            if not Path(given).is_file():
                raise RequestError(f"{where}: {given} is no file; give a path from where you run this")
            found[role] = data_file(Path(given), self.starting_points.context.digests)
        return found

    def _reranked(self, name: str) -> Node:
        starting_points, maker = self.starting_points, self._maker(name)
        full, made, teacher = self._named("sift", name), self._made(name), starting_points.teacher()
        stored = starting_points.recipe.store
        if maker.rerank and stored.layers != "all" and teacher.shape.layers not in stored.layers:
            raise RequestError(
                f"candidates.{name}.rerank: goes by the teacher's last layer, {teacher.shape.layers}, but store.layers "
                f"is {list(stored.layers)}; store that too"
            )
        spec = RerankSpec(
            k=self._k(name),
            rerank=maker.rerank,
            pooling="cls" if stored.pooling == "cls" else "mean",
            min_distance=maker.min_distance if maker.rerank else 0.0,
            max_distance=maker.max_distance if maker.rerank else 1.0,
            confidence=maker.confidence or (0.0, 1.0),
            balance=maker.balance,
        )
        inputs: Inputs = {
            "candidates": Edge(made),
            "outputs": Edge(ModelOutputs(starting_points).store(TEACHER, teacher)),
            "candidate_outputs": Edge(self.store(name, TEACHER, teacher)),
        }
        return starting_points.context.once(
            full, lambda: Node(full, "candidates", starting_points.task, spec, inputs, rows=made.rows)
        )

    # --- its texts, and what is said of them ---

    def rows(self, name: str, tokenizer: ExternalInput) -> Node:
        """The texts of the table, before it is sifted, in tokens."""
        starting_points, made, corpus = self.starting_points, self._made(name), self.starting_points.corpus(tokenizer)
        other = made.inputs["corpus"] != Edge(corpus)
        full = self._named(f"unlabelled/{tokenizer.identity[:8]}" if other else "unlabelled", name)
        inputs: Inputs = {"candidates": Edge(made), "corpus": Edge(corpus)}
        rows = self._texts(name, made)
        return starting_points.context.once(
            full, lambda: Node(full, "candidates", starting_points.task, UnlabelledSpec(), inputs, rows=rows)
        )

    def _texts(self, name: str, made: Node) -> Quantity:
        return (
            Quantity.unknown(made.name)
            if made.rows.value is None
            else Quantity.at_most(made.rows.value * self._found(name))
        )

    def store(self, name: str, speaker: str, model: Model) -> Node:
        """What a model says of the texts: logits, and the last layer where that orders them."""
        starting_points, block = self.starting_points, self.starting_points.recipe.store
        rows = self.rows(name, model.tokenizer)
        last = self._maker(name).rerank and speaker == TEACHER
        spec = TeachSpec(
            pooling=block.pooling,
            layers=(model.shape.layers,) if last else (),
            precision=block.precision,
            compute=block.compute,
            splits=("candidates",),
            label_order=model.label_order,
        )
        extent = Extent(len(spec.layers), model.shape.width, starting_points.recipe.task.outputs, model.shape.heads)
        known = rows.rows.value
        size = Quantity.unknown(rows.name) if known is None else Quantity.at_most(store_bytes(spec, extent, known))
        full = self._named("teach" if speaker == TEACHER else f"teach/{speaker}", name)
        inputs: Inputs = {"corpus": Edge(rows), "model": model.source}
        return starting_points.context.once(
            full,
            lambda: Node(full, "teach", starting_points.task, spec, inputs, rows=rows.rows, bytes=size, extent=extent),
        )

    def _named(self, what: str, name: str) -> str:
        said = name if what in ("candidates", "sift") else f"candidates:{name}"
        return f"{what}/{said}@{self.starting_points.task}"
