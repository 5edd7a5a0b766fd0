"""What a model of a recipe starts from: a pretrained model, layers of another, or random weights."""

from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from pipeline.recipe.schema.images import NetworkBlock
from pipeline.recipe.schema.scalars import Block, Name, Number, ReadAs, Text, Whole, distinct, key
from stages.specs.student import Bilstm, Head, Network

BILSTM = Bilstm.model_fields


class FreshConfig(Block):
    """A model with random weights. Every key except `model` is a field of that model's configuration with its new
    value. Names, types and sizes are checked while planning; `run` also builds each such student on trial before any
    work, which takes some seconds."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str | int | float | bool]

    model: Text = key("The model whose configuration and tokenizer are used. Its weights are not.", "bert-base-uncased")

    @property
    def changes(self) -> tuple[tuple[str, str | int | float | bool], ...]:
        """The fields to change and their new values, sorted by name."""
        return tuple(sorted(self.__pydantic_extra__.items()))


def _without_embeddings(layers: object) -> object:
    """``layers`` as they stand in the file, unless they name the embeddings."""
    if isinstance(layers, list | tuple) and any(type(layer) is int and layer == 0 for layer in layers):
        raise ValueError("must not name 0, the embeddings, which are always kept; the first layer is 1")
    return layers


def _rising(layers: tuple[int, ...]) -> tuple[int, ...]:
    """``layers``, unless a lower layer follows a higher one."""
    if list(layers) != sorted(layers):
        raise ValueError(f"must rise, because a layer keeps its place among the others; write {sorted(layers)}")
    return layers


class LayerCut(Block):
    """Some of a model's layers, with its embeddings."""

    of: Name = key(
        "`teacher`: of the fine-tuned teacher, with its head, unless `head` is of another kind. `base`: of the "
        "teacher's model before its fine-tuning, with a new head. Or an entry of `models` with `pretrain`: of its "
        "[masked language model](#masked-language-models), with its head if the entry has `pretrain` as well, else "
        "with a new one.",
        "base",
        "teacher",
    )
    layers: Annotated[
        tuple[Annotated[Whole, Field(ge=1)], ...],
        Field(min_length=1, json_schema_extra={"uniqueItems": True}),
        BeforeValidator(_without_embeddings),
        AfterValidator(distinct),
        AfterValidator(_rising),
    ] = key("The layers to keep, in rising order. 1 is the first layer.", [2, 4, 6])


class BilstmBlock(Block):
    """A [bidirectional LSTM](#bilstm-students) with random weights (Tang et al. 2019) and the teacher's tokenizer. It
    has no layers that a method could match, so it needs `structure: none`."""

    hidden: Whole = key(
        "Width of the states of one direction. The paper has 150, and 300 for STS-B.", 300, of=BILSTM["hidden"]
    )
    layers: Whole = key("Number of LSTM layers.", 2, of=BILSTM["layers"])
    fc: Whole = key("Width of the fully connected layer before the classifier.", 400, of=BILSTM["fc"])
    embeddings: Literal["teacher", "base", "random"] = key(
        "The word embeddings at the start of training: those of the fine-tuned teacher, those of the teacher's model "
        "before its fine-tuning, or random ones. All are trained with the other weights.",
        "random",
        "teacher",
    )
    width: Whole | None = key(
        "Width of the LSTM's inputs. Copied embeddings are mapped to it by a linear layer, which is trained, too. "
        "Default: 300 for random embeddings, else the teacher's, without such a layer.",
        128,
        of=BILSTM["width"],
    )
    dropout: Number = key(
        "Dropout on the LSTM's inputs, between its layers, and before the classifier.", 0.3, of=BILSTM["dropout"]
    )


def _cut_instead(layers: object) -> str:
    """What to write in place of ``from_teacher``, which counted layers from 0."""
    whole = isinstance(layers, list | tuple) and all(type(layer) is int for layer in layers)
    numbers = ", ".join(str(layer + 1) for layer in sorted(set(layers))) if whole else "..."  # type: ignore[call-overload]
    return f"write cut: {{of: teacher, layers: [{numbers}]}}, where 1 is the first layer"


class StartBlock(Block):
    """Exactly one of `model`, `cut`, `config`, `bilstm` and `network`, and the kind of classification head."""

    replaced = MappingProxyType({"from_teacher": _cut_instead})

    model: Text | None = key(
        "Start from this pretrained model: a directory, or a name on the hub.", "distilroberta-base", None
    )
    cut: LayerCut | None = key(
        "Start from some of the teacher's layers, and its embeddings.", {"of": "teacher", "layers": [2, 4, 6]}, None
    )
    config: FreshConfig | None = key(
        "Start from random weights.", {"model": "bert-base-uncased", "num_hidden_layers": 2, "hidden_size": 128}, None
    )
    bilstm: BilstmBlock | None = key(
        "A bidirectional LSTM in place of a transformer. `{}` has the paper's sizes.", {"hidden": 300}, None
    )
    network: Annotated[Network, ReadAs(NetworkBlock, NetworkBlock.spec)] | None = key(
        "For a task on images: a [network](#studentnetwork) by name, with random weights.", "resnet-8", None
    )
    head: Head | None = key(
        "What the [classification head](#heads) reads of the last layer: the state of the first token (`cls`), or the "
        "mean over all tokens (`mean`). Default: as the teacher's for a `cut`, else as that of the model or "
        "configuration that the student starts from, which is `cls` for an encoder without a head. Of tasks of the "
        "kind `tokens`: `crf`, a linear-chain CRF over the words. Default there: as the teacher's for a `cut`, else "
        "none.",
        "mean",
        None,
    )
