"""The axis ``data``: the texts that a student is trained on. Needs the standard library and pydantic only."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.specs.base import Frozen


class Original(Frozen):
    """The task's own rows, as they are."""

    kind: Literal["original"] = "original"


class WithCandidates(Frozen):
    """The fields of all kinds that use candidates. Candidates have no label: their loss is the term that the training
    has for the teacher's logits, averaged over a row's candidates, with `weight` times the weight of that term for the
    row itself: with n candidates in a step, `weight: n` makes each weigh as much as a row. The first `warmup_epochs`
    epochs use no candidates."""

    k: int = Field(8, ge=1)
    weight: float = Field(1.0, gt=0.0)
    warmup_epochs: int = Field(0, ge=0)


class Neighbours(WithCandidates):
    """Each row is trained with all of its `k` candidates, or with `draw` of them, which are drawn at random anew in
    each epoch, without replacement."""

    kind: Literal["knn"] = "knn"
    draw: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _some_are_not_drawn(self) -> "Neighbours":
        if self.draw is not None and self.draw >= self.k:
            raise ValueError(f"draw: {self.draw} of k: {self.k} draws them all; draw fewer, or leave draw out")
        return self

    @property
    def trained_on(self) -> int:
        """The number of candidates that each row is trained with, if it has so many."""
        return self.k if self.draw is None else self.draw


class Minimax(WithCandidates):
    """Each row is trained with the `keep` of its `k` candidates on which student and teacher differ most, measured by
    the loss term of candidates itself. The current student scores them in each step (`every: step`), or all of them at
    the start of every n-th epoch (`every: n`)."""

    kind: Literal["minimax-knn"] = "minimax-knn"
    keep: int = Field(4, ge=1)
    every: Literal["step"] | Annotated[int, Field(ge=1)] = "step"

    @model_validator(mode="after")
    def _some_are_left_out(self) -> "Minimax":
        if self.keep >= self.k:
            raise ValueError(f"keep: {self.keep} of k: {self.k} leaves none out; keep fewer, or use kind: knn")
        return self

    def rescores(self, epoch: int) -> bool:
        """Whether all candidates of train are scored when this epoch begins."""
        return self.every != "step" and (epoch - self.warmup_epochs) % self.every == 0


class MovedEmbeddings(Frozen):
    """What the kinds share whose adversary moves the word embeddings of the task's rows."""

    @property
    def forms(self) -> int:
        """The number of forms in which each row is read."""
        raise NotImplementedError


class FreeLB(MovedEmbeddings):
    """Each row is read in `steps` forms, whose mean loss counts: its word embeddings are moved at random by up to
    `start`, and then from form to form by a step of length `rate` along the gradient of the loss, never further than
    `max_norm` (0: without a bound). Lengths are those of all tokens of a row together."""

    kind: Literal["freelb"] = "freelb"
    steps: int = Field(2, ge=1)
    rate: float = Field(0.1, ge=0.0)
    start: float = Field(0.1, ge=0.0)
    max_norm: float = Field(0.3, ge=0.0)

    @property
    def forms(self) -> int:
        return self.steps


class Adversarial(MovedEmbeddings):
    """Each row is read as it is, and once more with its word embeddings moved by a step of the length `length`, that of
    all tokens together, along the gradient of the labels' loss; the mean of the two losses counts."""

    kind: Literal["adversarial"] = "adversarial"
    length: float = Field(0.3, ge=0.0)

    @property
    def forms(self) -> int:
        return 2


class Contrast(Frozen):
    """A part of what a generator maximises, with the share `share` of it: how badly a row's states in the student are
    told from those of the batch's other rows by its states in the teacher (InfoNCE at `temperature`). The states of all
    layers, pooled as `pooling` says, are projected to `width` dimensions on each side; the projections are trained
    along with the generator, to lower what it raises."""

    share: float = Field(0.5, gt=0.0, le=1.0)
    temperature: float = Field(2.0, gt=0.0)
    width: int = Field(128, ge=1)
    pooling: Literal["cls", "mean"] = "cls"


class WithGenerator(Frozen):
    """Beside each row the student reads it once more with a share `mask` of its tokens, special tokens aside, chosen
    anew by a generator, a masked language model. There it is compared with the teacher, which runs on these rows; that
    comparison has the share `share` of the row's loss. The two take turns: in `generator_steps` steps the generator is
    trained to raise the distance between student and teacher on its rows, at the peak learning rate
    `learning_rate`, and in the next `student_steps` the student is trained, each on rows of their own. `temperature`
    is that of the generator's Gumbel-softmax. With `objective: cross-entropy`, the generator raises the cross-entropy
    in place of the KL divergence, and so the entropy of the teacher's outputs, too; with `contrast`, it raises a
    contrast between the layers of both as well. A changed row keeps the label of its row with the share `labels` of
    that row's loss."""

    kind: Literal["generated"] = "generated"
    mask: float = Field(0.3, ge=0.0, le=1.0)
    share: float = Field(1 / 3, gt=0.0, lt=1.0)
    generator_steps: int = Field(10, ge=0)
    student_steps: int = Field(100, ge=1)
    learning_rate: float = Field(5.0e-7, gt=0.0)
    temperature: float = Field(1.0, gt=0.0)
    objective: Literal["divergence", "cross-entropy"] = "divergence"
    labels: float = Field(0.0, ge=0.0, lt=1.0)
    contrast: Contrast | None = None


Data = Annotated[Original | Neighbours | Minimax | FreeLB | Adversarial | WithGenerator, Field(discriminator="kind")]
