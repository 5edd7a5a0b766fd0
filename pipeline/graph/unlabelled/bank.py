"""Nodes of a recipe's bank: its texts, their embeddings and their index.

They depend on no task, so all tasks of a recipe share them.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import RequestError, refused
from pipeline.graph.artifact_sizes import GENERATED_BYTES, bank_size
from pipeline.graph.context import GraphContext, Model, check_length
from pipeline.graph.external.inputs import data_file
from pipeline.graph.nodes import Edge, ExternalInput, Node, Quantity
from pipeline.recipe import Bank
from stages.bank.sources import spans, text_files
from stages.specs.bank import HubTexts
from stages.specs.corpus import Files
from stages.specs.retrieval import ModelEncoder

KEY_BYTES = 16
VALUE_BYTES = 2
"""Bytes of a number of a stored vector (float16)."""

Inputs = dict[str, Edge | ExternalInput]


@dataclass(frozen=True)
class BankNodes:
    """The bank of a recipe, its embeddings and its index."""

    context: GraphContext
    given: Bank

    def bank(self) -> Node:
        """The node of the cleaned texts. Raises RequestError."""
        return self.context.get_or_create("bank", self._bank)

    def _bank(self) -> Node:
        given, context = self.given, self.context
        spec, inputs = given.cleaning, Inputs()
        rows = size = Quantity.unknown("bank")
        if given.hub is not None:
            commit = context.pins.commit(given.hub.repository, "dataset", "bank.hub")
            source = HubTexts(revision=commit, **given.hub.model_dump())
            spec = spec.model_copy(update={"source": source})
        elif given.generated is not None:
            spec = spec.model_copy(update={"source": given.generated})
            rows = Quantity.at_most(given.generated.rows)
            size = Quantity.about(given.generated.rows * (GENERATED_BYTES + KEY_BYTES))
        else:
            with refused("bank.files"):
                files = text_files([Path(name) for name in given.files or ()])
                for path in files:
                    spans(path, spec.text)
                rows, size = bank_size(files, spec, context.digests)
            spec = spec.model_copy(update={"source": Files()})
            inputs = {f"files/{number}": data_file(path, context.digests) for number, path in enumerate(files)}
            if rows.value == 0:
                raise RequestError(f"bank.files: no rows in {', '.join(map(str, files))}; give files that hold texts")
        if spec.rows is not None:
            sampled = spec.rows if rows.value is None else min(spec.rows, rows.value)
            if rows.value and size.value is not None:
                size = Quantity.about(size.value * sampled // rows.value)
            rows = Quantity.at_most(sampled) if rows.kind != "about" else Quantity.about(sampled)
        return Node("bank", "bank", "", spec, inputs, rows=rows, bytes=size)

    def encoder(self) -> Model | None:
        """The sentence encoder; None for TF-IDF. Raises RequestError."""
        name = self.given.encoder_model
        if name is None:
            return None
        found, encoder = self.context.external_model(name, "bank.encoder"), self.given.embedding.encoder
        assert isinstance(encoder, ModelEncoder)
        check_length(found, name, "bank.max_length", encoder.max_length)
        return found

    def embeddings(self) -> Node:
        """The node of the texts' vectors."""
        return self.context.get_or_create("embed", self._embeddings)

    def _embeddings(self) -> Node:
        bank, encoder = self.bank(), self.encoder()
        inputs: Inputs = {"bank": Edge(bank)}
        size = Quantity.unknown("embed")
        if encoder is not None:
            inputs["encoder"] = encoder.source
            if bank.rows.value is not None:
                size = Quantity.at_most(bank.rows.value * (VALUE_BYTES * encoder.shape.width + KEY_BYTES))
        return Node("embed", "embed", "", self.given.embedding, inputs, rows=bank.rows, bytes=size)

    def index(self) -> Node | None:
        """The node of the FAISS index; None for TF-IDF, which is searched without one. Raises RequestError."""
        if not isinstance(self.given.embedding.encoder, ModelEncoder):
            return None
        if find_spec("faiss") is None:
            raise RequestError("bank: neighbours need FAISS; install the extra cpu or gpu, or use encoder: tfidf")
        embeddings = self.embeddings()
        inputs: Inputs = {"embeddings": Edge(embeddings)}
        return self.context.get_or_create(
            "index", lambda: Node("index", "index", "", self.given.index, inputs, rows=embeddings.rows)
        )
