"""Adversaries that move the word embeddings of the task's rows along the gradient of the loss.

The student reads the rows in several forms one after the other, and is trained on the mean of their losses. All forms
of a batch have the same dropout masks, so that they differ in the perturbation alone. The teacher's term, if there is
one, compares each form with the stored logits of the unchanged row: the teacher is not run.

Shapes: B rows, T tokens, E the width of the word embeddings.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from stages.corpus.rowset import Batch
from stages.models.embeddings.words import embed
from stages.specs.axes.data import Adversarial, FreeLB
from stages.specs.axes.training import Position
from stages.specs.schedule import EpochPlan
from stages.specs.seeds import seed_of_row
from stages.training.objective.trained_parts import TrainedParts
from stages.training.participants.protocol import Participant, View

DRAWS = 3
"""The kind of ``seed_of_row`` of first perturbations; 2 is that of generated rows."""

LEAST_LENGTH = 1e-8
"""A gradient that is shorter is divided by this length, as in the code of FreeLB."""


class EmbeddingAscent(Participant):
    """What FreeLB and adversarial training share: perturbed embeddings, and sums over rows of the length of the last
    perturbation and of the rise of the loss by it."""

    changes_inputs = True

    def __init__(self, parts: TrainedParts) -> None:
        self.model = parts.wrapped
        self.device = parts.worker.device
        self._sums = self._no_sums()

    @property
    def sums(self) -> int:
        return 3

    def views(self, batch: Batch, _prepared: Any, plan: EpochPlan) -> Iterator[View]:
        masks = _random_state(self.device)
        losses, lengths = [], []
        for view, perturbation_BTE in self.perturbed(batch, plan.position):
            _set_random_state(masks, self.device)
            yield view
            losses.append(view.loss)
            lengths.append(_lengths(perturbation_BTE.detach()))
        assert losses[0] is not None and losses[-1] is not None
        lengths_B, rise_B = lengths[-1], losses[-1] - losses[0]
        self._sums += torch.stack([torch.ones_like(rise_B), lengths_B, rise_B]).double().sum(1)

    @abstractmethod
    def perturbed(self, batch: Batch, position: Position) -> Iterator[tuple[View, Tensor]]:
        """The forms of the rows in the epoch at ``position``, each with its perturbation [B, T, E]."""

    def inputs(self, batch: Batch, perturbation_BTE: Tensor) -> Mapping[str, Tensor]:
        """The inputs of the student with a perturbation of the word embeddings."""
        return {**batch.inputs, "inputs_embeds": embed(self.model, batch.inputs["input_ids"]) + perturbation_BTE}

    def zeros(self, batch: Batch) -> Tensor:
        """[B, T, E]: no perturbation."""
        with torch.no_grad():
            return torch.zeros_like(embed(self.model, batch.inputs["input_ids"]))

    def collect(self) -> Tensor:
        found, self._sums = self._sums, self._no_sums()
        return found

    def _no_sums(self) -> Tensor:
        return torch.zeros(3, dtype=torch.float64, device=self.device)

    def entry(self, sums: list[float]) -> dict[str, Any] | None:
        """The mean length of a row's last perturbation, and the mean rise of a row's loss from the first form to the
        last."""
        rows, length, rise = sums
        return {"mean_length": length / rows, "mean_rise": rise / rows} if rows else None

    def line(self, entry: Mapping[str, Any]) -> str:
        return f"perturbations {entry['mean_length']:.3g} long raise the loss by {entry['mean_rise']:.3g}"


class FreeLBAscent(EmbeddingAscent):
    """FreeLB (Zhu et al. 2020, algorithm 1): K forms of each row, each with the share 1 / K. The first perturbation is
    random, and each further one is the one before it, moved along the gradient of the loss of that form."""

    name = "freelb"

    def __init__(self, settings: FreeLB, parts: TrainedParts) -> None:
        super().__init__(parts)
        self.settings = settings
        self.seed = parts.setup.spec.train.seed

    def perturbed(self, batch: Batch, position: Position) -> Iterator[tuple[View, Tensor]]:
        steps = self.settings.steps
        perturbation_BTE = self.start(batch, position)
        for number in range(steps):
            perturbation_BTE.requires_grad_(True)
            last = number + 1 == steps
            yield View(self.inputs(batch, perturbation_BTE), 1 / steps, last), perturbation_BTE
            if not last:
                gradient_BTE = perturbation_BTE.grad
                assert gradient_BTE is not None
                perturbation_BTE = self.moved(perturbation_BTE.detach(), gradient_BTE)

    def start(self, batch: Batch, position: Position) -> Tensor:
        """[B, T, E]: uniform in +- ``start`` / sqrt(tokens of the row * E), 0 at padding. That of a row depends on the
        student's seed, phase, epoch and row alone, so that it is the same on any number of workers."""
        zeros_BTE = self.zeros(batch)
        if not self.settings.start:
            return zeros_BTE
        random_BTE = torch.zeros(zeros_BTE.shape)
        lengths = batch.inputs["attention_mask"].sum(1).tolist()
        for place, (row, length) in enumerate(zip(batch.rows.tolist(), lengths, strict=True)):
            seed = seed_of_row(DRAWS, self.seed, position.phase, position.epoch, row)
            size, generator = (length, zeros_BTE.shape[2]), torch.Generator().manual_seed(seed)
            bound = self.settings.start / (length * size[1]) ** 0.5
            random_BTE[place, :length] = (torch.rand(size, generator=generator) * 2 - 1) * bound
        return random_BTE.to(zeros_BTE)

    def moved(self, perturbation_BTE: Tensor, gradient_BTE: Tensor) -> Tensor:
        """[B, T, E]: the perturbation after a step of the length ``rate`` along the gradient of each row, shortened to
        ``max_norm``."""
        moved_BTE = perturbation_BTE + self.settings.rate * _unit(gradient_BTE)
        if not self.settings.max_norm:
            return moved_BTE
        factors_B = (self.settings.max_norm / _lengths(moved_BTE).clamp_min(LEAST_LENGTH)).clamp_max(1.0)
        return moved_BTE * factors_B[:, None, None]


class AdversarialAscent(EmbeddingAscent):
    """Adversarial training of text (Miyato et al. 2017): each row as it is, and once more with its word embeddings
    moved by a step of fixed length along the gradient of the labels' loss; the two have equal shares."""

    name = "adversarial"

    def __init__(self, settings: Adversarial, parts: TrainedParts) -> None:
        super().__init__(parts)
        self.settings = settings

    def perturbed(self, batch: Batch, _position: Position) -> Iterator[tuple[View, Tensor]]:
        nothing_BTE = self.zeros(batch).requires_grad_(True)
        clean = View(self.inputs(batch, nothing_BTE), 0.5, last=False, leaf=nothing_BTE)
        yield clean, nothing_BTE
        assert clean.gradient is not None
        moved_BTE: Tensor = self.settings.length * _unit(clean.gradient)
        yield View(self.inputs(batch, moved_BTE), 0.5), moved_BTE


def _unit(gradient_BTE: Tensor) -> Tensor:
    """[B, T, E]: the gradient of each row, scaled to length 1."""
    return gradient_BTE / _lengths(gradient_BTE).clamp_min(LEAST_LENGTH)[:, None, None]


def _lengths(vectors_BTE: Tensor) -> Tensor:
    """[B]: the length of all vectors of a row together."""
    lengths_B: Tensor = torch.linalg.vector_norm(vectors_BTE, dim=(1, 2))
    return lengths_B


def _random_state(device: str) -> Tensor:
    """The state of the generator from which dropout masks on the device are drawn."""
    return torch.cuda.get_rng_state(device) if device.startswith("cuda") else torch.get_rng_state()


def _set_random_state(state: Tensor, device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
