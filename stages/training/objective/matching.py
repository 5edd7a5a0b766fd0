"""The loss between states of the student's layers and of the teacher's, and the projections that it learns: a matcher
for each kind of structure, and the table that chooses it.

Shapes: B rows, H the student's width, D the teacher's, K teacher layers in a group, C classes. All losses are one value
a row, as in ``specs.axes.losses``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from stages.specs.axes.structures import NoLayers, StructureKind
from stages.specs.layer_map import LayerGroup, check_one_width, score_name, token_state_name
from stages.specs.layers import Attend, Concatenate, EveryToken, Outputs, Pick, Random, Relational, Structure
from stages.training.objective.layer_losses import (
    TeacherOutputs,
    attended_state,
    attention,
    attention_query,
    concatenated,
    layer_error,
    outputs_error,
    score_error,
    stacked,
    token_state_error,
    unit_distance,
)
from stages.training.objective.relations import Workers, relational_error

States = Mapping[int, Tensor]
"""The student's states by layer: pooled, [B, H], or of every token, [B, T, H]."""


@dataclass(frozen=True, slots=True)
class Widths:
    """The widths that projections map between: ``student`` (H) of the states of the embeddings and of each layer,
    ``teacher`` (D) by layer, and ``outputs`` (C), the width of the student's logits."""

    student: Sequence[int]
    teacher: Mapping[int, int]
    outputs: int

    def of_group(self, group: LayerGroup) -> tuple[int, int]:
        """The width of a group's student layer, and that of its teacher layers, which must be one. Raises ValueError
        for teacher layers of several widths, which only ``concatenate`` can follow."""
        check_one_width([group], self.teacher)
        return self.student[group.student], self.teacher[group.teacher[0]]

    def end_to_end(self, group: LayerGroup) -> int:
        """The width of a group's teacher layers end to end."""
        return sum(self.teacher[layer] for layer in group.teacher)


@dataclass(frozen=True, slots=True)
class MatchedRows:
    """What a matcher compares for the rows of a batch: the student's ``states`` and the teacher's ``outputs``, in the
    ``groups`` of the current epoch. ``workers`` says how the rows are divided among workers, and ``temperature`` is
    that of attention to layers in this epoch. ``mask`` [B, T] marks the tokens of each row, and ``scores`` has the
    attention scores [B, heads, T, T] of each of the student's layers, 1 the first, where they are matched."""

    states: States
    outputs: TeacherOutputs
    groups: Sequence[LayerGroup]
    workers: Workers
    temperature: float = 1.0
    mask: Tensor | None = None
    scores: Mapping[int, Tensor] = field(default_factory=dict)


class LayerMatcher(nn.Module, ABC):
    """The layer loss of a resolved structure, with its projections: ``student`` holds those of the student's states,
    ``teacher`` those of the teacher's.

    Projections are trained with the student and stored in its checkpoints, but are not saved with the finished
    student. Their initial weights come from torch's generator, the student's first. ``log_temperatures`` [groups] are
    the logarithms of the learned temperatures of attention; None where none is learned.
    """

    def __init__(self, structure: StructureKind) -> None:
        """A matcher without projections."""
        super().__init__()
        self.student_layers = tuple(sorted({group.student for group in structure.layer_groups()}))
        # These three names are part of the checkpoint format.
        self.student, self.teacher = nn.ModuleList(), nn.ModuleList()
        self.log_temperatures: nn.Parameter | None = None

    @abstractmethod
    def forward(self, rows: MatchedRows) -> Tensor:
        """[B]: the layer loss of each row."""

    def attention_weights(self, _rows: MatchedRows, /) -> Tensor | None:
        """[B, groups + layers], row by row: the largest weight of each group's attention (with 1, the row follows a
        single layer of the teacher), then the weights of all layers of the first group, of the second, and so on; None
        for a structure without attention."""
        return None

    def projected(self, rows: MatchedRows) -> list[Tensor]:
        """The projected state of each group's student layer."""
        return [project(rows.states[group.student]) for project, group in zip(self.student, rows.groups, strict=True)]


class NothingMatcher(LayerMatcher):
    """The matcher of ``none``, which holds nothing and is never called."""

    def __init__(self, structure: NoLayers, _widths: Widths) -> None:
        super().__init__(structure)

    def forward(self, _rows: MatchedRows) -> Tensor:
        raise AssertionError("structure none has no layer loss")


class PickMatcher(LayerMatcher):
    """The distance from one layer of the teacher each, projected where the widths differ."""

    def __init__(self, structure: Pick, widths: Widths) -> None:
        super().__init__(structure)
        self.structure = structure
        self.student.extend(_projection_between(*widths.of_group(group)) for group in structure.layer_groups())

    def forward(self, rows: MatchedRows) -> Tensor:
        return layer_error(self.projected(rows), concatenated(rows.groups, rows.outputs), self.structure)


class ConcatenateMatcher(LayerMatcher):
    """The distance of the student's projected states from the groups' layers end to end."""

    def __init__(self, structure: Concatenate, widths: Widths) -> None:
        super().__init__(structure)
        self.structure = structure
        groups = structure.layer_groups()
        self.student.extend(nn.Linear(widths.student[group.student], widths.end_to_end(group)) for group in groups)

    def forward(self, rows: MatchedRows) -> Tensor:
        return layer_error(self.projected(rows), concatenated(rows.groups, rows.outputs), self.structure)


class AttendMatcher(LayerMatcher):
    """The distance from the states that the student attends to, projected where the widths differ. The logarithms of
    learned temperatures are 0 at first."""

    def __init__(self, structure: Attend, widths: Widths) -> None:
        super().__init__(structure)
        self.structure = structure
        groups = structure.layer_groups()
        self.student.extend(_projection_between(*widths.of_group(group)) for group in groups)
        if structure.temperature == "learned":
            self.log_temperatures = nn.Parameter(torch.zeros(len(groups)))

    def forward(self, rows: MatchedRows) -> Tensor:
        projected = self.projected(rows)
        targets = [
            attended_state(h, stacked(group, rows.outputs), self.structure, temperature)
            for h, group, temperature in zip(projected, rows.groups, self._temperatures(rows), strict=True)
        ]
        return layer_error(projected, targets, self.structure)

    @torch.no_grad()
    def attention_weights(self, rows: MatchedRows, /) -> Tensor:
        weights = [
            attention(attention_query(h, self.structure, temperature), stacked(group, rows.outputs))
            for h, group, temperature in zip(self.projected(rows), rows.groups, self._temperatures(rows), strict=True)
        ]
        return torch.cat([torch.stack([weight.amax(-1) for weight in weights], dim=-1), *weights], dim=-1)

    def _temperatures(self, rows: MatchedRows) -> Sequence[float | Tensor]:
        """The temperature of each group's attention, the same for all where it is not learned."""
        if self.log_temperatures is None:
            return [rows.temperature] * len(rows.groups)
        return list((rows.temperature * self.log_temperatures.exp()).unbind())


class RandomMatcher(LayerMatcher):
    """The distance of the projected states at length 1; both sides have projections. With ``joined``, all layers of a
    side are projected end to end."""

    def __init__(self, structure: Random, widths: Widths) -> None:
        super().__init__(structure)
        self.joined = structure.joined
        pairs = [widths.of_group(group) for group in structure.layer_groups()]
        for side, found in zip((self.student, self.teacher), zip(*pairs, strict=True), strict=True):
            given = [sum(found)] if structure.joined else found
            side.extend(nn.Linear(width, structure.width) for width in given)

    def forward(self, rows: MatchedRows) -> Tensor:
        student, teacher = (
            [rows.states[group.student] for group in rows.groups],
            concatenated(rows.groups, rows.outputs),
        )
        if self.joined:
            student, teacher = [torch.cat(student, dim=-1)], [torch.cat(teacher, dim=-1)]
        return unit_distance(
            [project(state) for project, state in zip(self.student, student, strict=True)],
            [project(state) for project, state in zip(self.teacher, teacher, strict=True)],
        )


class RelationalMatcher(LayerMatcher):
    """The relations between the rows of all workers, without a projection."""

    def __init__(self, structure: Relational, _widths: Widths) -> None:
        super().__init__(structure)
        self.structure = structure

    def forward(self, rows: MatchedRows) -> Tensor:
        (group,) = rows.groups
        (teacher_BD,) = concatenated(rows.groups, rows.outputs)
        return relational_error(rows.states[group.student], teacher_BD, self.structure, rows.workers)


class OutputsMatcher(LayerMatcher):
    """The distance between the logits of classifiers. The projection of a student's state is the classifier on it."""

    def __init__(self, structure: Outputs, widths: Widths) -> None:
        super().__init__(structure)
        self.temperature = structure.temperature
        groups = structure.layer_groups()
        self.student.extend(nn.Linear(widths.student[group.student], widths.outputs) for group in groups)

    def forward(self, rows: MatchedRows) -> Tensor:
        teacher = [stacked(group, rows.outputs) for group in rows.groups]
        return outputs_error(self.projected(rows), teacher, self.temperature)


class EveryTokenMatcher(LayerMatcher):
    """The squared error of the states and of the attention scores at every token, summed over pairs of layers. One
    projection is shared by all layers, also where the widths agree (TinyBERT, Jiao et al. 2020)."""

    def __init__(self, structure: EveryToken, widths: Widths) -> None:
        super().__init__(structure)
        self.score_layers = structure.score_layers
        (between,) = {widths.of_group(group) for group in structure.layer_groups()}
        self.student.append(nn.Linear(*between))

    def forward(self, rows: MatchedRows) -> Tensor:
        (shared,) = self.student
        assert rows.mask is not None
        errors = []
        for group in rows.groups:
            (layer,) = group.teacher
            state_BTD = shared(rows.states[group.student].float())
            errors.append(token_state_error(state_BTD, rows.outputs[token_state_name(layer)], rows.mask))
            if layer in self.score_layers:
                scores = rows.scores[group.student].float()
                errors.append(score_error(scores, rows.outputs[score_name(layer)], rows.mask))
        return torch.stack(errors).sum(0)


def _projection_between(student: int, teacher: int) -> nn.Module:
    """A projection of the student's states to the teacher's width; the states as they are where the widths agree."""
    return nn.Identity() if student == teacher else nn.Linear(student, teacher)


MATCHERS: Mapping[type[StructureKind], Callable[[Any, Widths], LayerMatcher]] = {
    NoLayers: NothingMatcher,
    Pick: PickMatcher,
    Concatenate: ConcatenateMatcher,
    Attend: AttendMatcher,
    Random: RandomMatcher,
    Relational: RelationalMatcher,
    Outputs: OutputsMatcher,
    EveryToken: EveryTokenMatcher,
}
"""The matcher of each kind of structure."""


def matcher_of(structure: Structure, widths: Widths) -> LayerMatcher:
    """The matcher of a resolved structure, with new projections."""
    return MATCHERS[type(structure)](structure, widths)
