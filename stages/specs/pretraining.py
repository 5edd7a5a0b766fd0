"""The specs of the stage ``pretrain``, the training of a model on unlabelled texts, and of the stage ``texts``, which
tokenises such texts for several of these trainings."""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from stages.specs.base import Frozen, Spec
from stages.specs.layers import Attend, Concatenate, Pick, Random, Relational
from stages.specs.student import Pretrained, Start

MOST_HELD_OUT_TEXTS = 2000
"""The most texts that are held out to measure a pretrained model: more would only cost time."""

AnyPooledStates = Pick | Concatenate | Attend | Random | Relational
PooledStates = Annotated[AnyPooledStates, Field(discriminator="kind")]
"""The kinds of the axis ``structure`` that compare pooled states."""

STATE_KINDS: tuple[str, ...] = tuple(kind.model_fields["kind"].default for kind in get_args(AnyPooledStates))
"""The names of these kinds."""


class TextsSpec(Spec):
    """Unlabelled texts -> tokenised shards, in the form of a corpus with the splits ``train`` and ``holdout``.

    Inputs: ``tokenizer``, and the texts: ``bank``, or ``corpus``, whose rows of train are taken without labels. Equal
    texts are taken once.

    ``rows`` is the most texts that are used, None for all. ``holdout`` is the share of these that models are measured
    on and not trained on, up to ``MOST_HELD_OUT_TEXTS``. Longer texts are cut to ``max_length`` tokens.
    """

    stage: ClassVar[str] = "texts"
    version: ClassVar[int] = 1

    rows: int | None = Field(None, ge=2)
    holdout: float = Field(0.05, gt=0.0, lt=0.5)
    max_length: int = Field(128, ge=4)

    def texts_of(self, texts: int) -> tuple[int, int]:
        """(trained on, held out): how many of so many distinct texts there are of each. With 1 text, none is held
        out."""
        used = texts if self.rows is None else min(self.rows, texts)
        held_out = min(MOST_HELD_OUT_TEXTS, max(1, int(used * self.holdout + 0.5))) if used > 1 else 0
        return used - held_out, held_out


class Masking(Frozen):
    """The tokens that a masked language model learns to predict (Devlin et al. 2019, section 3.1).

    ``share`` of the tokens of a batch, special tokens aside, are predicted. Of these, ``masked`` are replaced by the
    mask token and ``random`` by a random token; the rest stay as they are.
    """

    share: float = Field(0.15, gt=0.0, lt=1.0)
    masked: float = Field(0.8, ge=0.0, le=1.0)
    random: float = Field(0.1, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _replaced_at_most_once(self) -> "Masking":
        if self.masked + self.random > 1.0 + 1e-9:
            raise ValueError(f"masked: {self.masked:g}, but random is {self.random:g}; their sum is at most 1")
        return self


class MaskedDistillation(Frozen):
    """What a masked language model learns from another one that reads the same masked texts (Sanh et al. 2019,
    DistilBERT). The loss of a batch is

        soft * temperature^2 KL(softmax(z_T / temperature) || softmax(z_S / temperature))
        + masked * (-log softmax(z_S)[token]) + cosine * (1 - cos(h_S, h_T)),

    with z the logits over the vocabulary and h the states of the last layer. The first and the last term are means over
    all tokens of the batch, special ones included and padding aside; the middle one is the mean over the tokens that
    are predicted, the loss without a teacher. The weights and the temperature are those of the released code.
    """

    temperature: float = Field(2.0, gt=0.0)
    soft: float = Field(5.0, gt=0.0)
    masked: float = Field(2.0, ge=0.0)
    cosine: float = Field(1.0, ge=0.0)


class SentenceEmbedding(Frozen):
    """How a sentence encoder follows the sentence embeddings of another one. With e the embedding of a text (the pooled
    states of the last layer; ``normalized``: scaled to length 1) of the student (S) and the teacher (T), the loss of
    text i of a batch of R texts is

    - `cosine`: 1 - cos(e_S, e_T);
    - `squared`: the squared error of e_S and e_T, mean over dimensions (Reimers and Gurevych 2020, Making Monolingual
      Sentence Embeddings Multilingual, equation 1, for one language);
    - `similarities`: the mean over the texts j of the batch of (cos(e_S_i, e_S_j) - cos(e_T_i, e_T_j))^2 (Tung and Mori
      2019, Similarity-Preserving Knowledge Distillation, with cosines in the place of rows scaled to length 1). It
      compares embeddings of any two widths.

    ``projection`` is a linear map of the student's embedding to the teacher's width: `none`, or `kept` as a part of the
    saved model, or `dropped` after the training, so that the embedding is that before the map.

    ``layer`` is the teacher's last layer, and ``pooling`` how it is pooled, for both models. ``normalize``: the saved
    model scales its embeddings to length 1, as the teacher does. Planning sets these; ``normalized`` None means as
    ``normalize``.
    """

    kind: Literal["embedding"] = "embedding"
    loss: Literal["cosine", "squared", "similarities"] = "cosine"
    projection: Literal["none", "kept", "dropped"] = "none"
    normalized: bool | None = None
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True
    layer: int = Field(0, ge=0)

    @property
    def compares_unit_vectors(self) -> bool:
        """Whether embeddings are scaled to length 1 before they are compared. No matter for cosines."""
        return self.normalize if self.normalized is None else self.normalized


class PretrainSpec(Spec):
    """A model, trained on unlabelled texts: as a masked language model, or with ``states`` to follow the stored states
    of another model (general distillation, Jiao et al. 2020, TinyBERT, section 3.2), or with ``embedding`` to follow
    the sentence embeddings of another one.

    Inputs of a masked language model: ``start`` (a model: its head that predicts tokens is kept if it has one, else a
    new one is tied to its word embeddings), ``tokenizer``, and the texts: ``bank``, or ``corpus``, whose rows of train
    are taken without labels. With ``distillation``, ``teacher`` (a masked language model with the same vocabulary,
    which is not changed). With ``states``: ``start`` (a model, whose head is not used), ``texts`` (of the stage
    ``texts``, with the same ``rows``, ``holdout`` and ``max_length``) and ``outputs`` (a store of the teacher's pooled
    states for these texts, whatever its tokenizer). Then no token is masked, and the loss is that of ``states`` times
    its weight. With ``embedding``, inputs are the same, and the loss is that of ``embedding``.

    ``rows`` is the most texts that are used, None for all. ``holdout`` is the share of these that the model is measured
    on and not trained on, up to ``MOST_HELD_OUT_TEXTS``. Training ends after ``epochs``, or after ``steps`` optimizer
    steps if that is earlier; the learning rate rises over the share ``warmup`` of the steps and then falls to 0. Longer
    texts are cut to ``max_length`` tokens.
    """

    stage: ClassVar[str] = "pretrain"
    version: ClassVar[int] = 1

    start: Start = Pretrained()
    masking: Masking = Masking()
    distillation: MaskedDistillation | None = None
    states: PooledStates | None = None
    embedding: SentenceEmbedding | None = None
    rows: int | None = Field(None, ge=2)
    holdout: float = Field(0.05, gt=0.0, lt=0.5)
    max_length: int = Field(128, ge=4)
    epochs: int = Field(3, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1.0e-4, gt=0.0, le=1.0)
    warmup: float = Field(0.06, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    max_grad_norm: float = Field(1.0, gt=0.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    @model_validator(mode="after")
    def _states_are_followed_alone(self) -> "PretrainSpec":
        states = self.states
        if states is None and self.embedding is None:
            return self
        name = "embedding" if states is None else "states"
        if self.masking != Masking() or self.distillation is not None:
            raise ValueError(f"{name}: no token is masked beside it; leave masking and distillation out")
        if states is None:
            return self
        if self.embedding is not None:
            raise ValueError("embedding: a training follows either states or embeddings; leave one of them out")
        if states.has_measured_weight:
            raise ValueError("states.weight: auto is measured against the labels' loss, and texts have no labels")
        if not states.is_resolved:
            raise ValueError("states: a rule names other layers for models of another depth; resolve it first")
        return self

    @property
    def texts(self) -> TextsSpec:
        """The choice of texts and the length at which they are cut."""
        return TextsSpec(rows=self.rows, holdout=self.holdout, max_length=self.max_length)

    def texts_of(self, texts: int) -> tuple[int, int]:
        """(trained on, held out): how many of so many distinct texts there are of each. With 1 text, none is held
        out."""
        return self.texts.texts_of(texts)

    def steps_of(self, texts: int) -> int:
        """Optimizer steps of a training on so many texts."""
        steps = self.epochs * -(-texts // self.batch_size)
        return steps if self.steps is None else min(self.steps, steps)

    def texts_read(self, texts: int) -> int:
        """Texts that the steps of a training on so many texts read, each epoch counted."""
        each_epoch = -(-texts // self.batch_size)
        whole, rest = divmod(self.steps_of(texts), each_epoch) if texts else (0, 0)
        return whole * texts + min(texts, rest * self.batch_size)
