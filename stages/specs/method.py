"""The axes of a method: targets x training x data x structure. A method is a point on them.

The teachers are not an axis but edges of the graph: one model, or several whose logits are averaged or followed one
after the other.
Needs the standard library and pydantic only.
"""

from pydantic import model_validator

from stages.specs.axes.data import Data, Original, WithCandidates, WithGenerator
from stages.specs.axes.kinds import TaskKind
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import Hard, Targets, TeacherTargets, Virtual, sum_to_one
from stages.specs.axes.training import LayersFirst, OnePhase, Progressive, Training
from stages.specs.base import Frozen
from stages.specs.layers import Structure


class Method(Frozen):
    """A point on the axes targets x training x data x structure."""

    targets: Targets = Hard()
    training: Training = OnePhase()
    data: Data = Original()
    structure: Structure = NoLayers()

    @property
    def needs_logits(self) -> bool:
        """Whether a teacher's logits are targets."""
        return isinstance(self.targets, TeacherTargets)

    @property
    def needs_calibration(self) -> bool:
        """Whether the teachers' logits are divided by their calibrated temperatures."""
        return isinstance(self.targets, TeacherTargets) and self.targets.calibrated

    @property
    def needs_layers(self) -> bool:
        """Whether the pooled states of a teacher's layers are matched."""
        return self.structure.follows == "states"

    @property
    def needs_probes(self) -> bool:
        """Whether the logits of classifiers on a teacher's layers are matched."""
        return self.structure.follows == "classifiers"

    @property
    def needs_tokens(self) -> bool:
        """Whether the states of a teacher's layers at every token are matched."""
        return self.structure.follows == "tokens"

    @property
    def needs_teacher(self) -> bool:
        """Whether any output of a teacher is read."""
        return self.needs_logits or self.structure.follows != "nothing"

    @property
    def needs_candidates(self) -> bool:
        """Whether candidates are used beside the task's own rows."""
        return isinstance(self.data, WithCandidates)

    @property
    def has_generated_rows(self) -> bool:
        """Whether a generator writes rows beside the task's own."""
        return isinstance(self.data, WithGenerator)

    @property
    def needs_live_teacher(self) -> bool:
        """Whether the teachers' models run in the training, beside their stores."""
        return self.has_generated_rows

    @property
    def needs_whole_batch(self) -> bool:
        """Whether the loss compares the rows of a batch with each other."""
        return self.structure.compares_rows or self.needs_contrast

    @property
    def needs_contrast(self) -> bool:
        """Whether the layers of student and teacher are contrasted on generated rows."""
        return isinstance(self.data, WithGenerator) and self.data.contrast is not None

    @model_validator(mode="after")
    def _schedules_of_logits_need_a_teacher(self) -> "Method":
        if not isinstance(self.training, OnePhase) and not isinstance(self.targets, TeacherTargets):
            raise ValueError(
                f"training: {self.training.kind} follows a teacher's logits, targets is {self.targets.kind}; "
                "use targets: teacher"
            )
        return self

    @model_validator(mode="after")
    def _layers_come_first_where_there_are_some(self) -> "Method":
        if isinstance(self.training, LayersFirst):
            if self.structure.follows == "nothing":
                raise ValueError("training: layers-first follows layers, structure is none; give one, such as tokens")
            if self.structure.has_measured_weight:
                raise ValueError(
                    "structure.weight: auto is measured beside another term, and layers-first has none beside the "
                    "layers; give a number"
                )
        return self

    @model_validator(mode="after")
    def _a_virtual_teacher_has_probabilities(self) -> "Method":
        if isinstance(self.targets, Virtual) and isinstance(self.training, OnePhase) and self.training.distance != "kl":
            raise ValueError(
                f"training.distance: {self.training.distance} compares logits, and a virtual teacher has none; use kl"
            )
        return self

    @model_validator(mode="after")
    def _candidates_follow_a_teacher(self) -> "Method":
        if isinstance(self.data, WithCandidates) and not isinstance(self.targets, TeacherTargets):
            raise ValueError(
                f"data: candidates have no label and follow a teacher's logits, targets is {self.targets.kind}; "
                "use targets: teacher"
            )
        return self

    @model_validator(mode="after")
    def _generated_rows_follow_a_teacher(self) -> "Method":
        if isinstance(self.data, WithGenerator) and not isinstance(self.targets, TeacherTargets):
            raise ValueError(
                f"data: generated rows have no label and follow a teacher's logits, targets is {self.targets.kind}; "
                "use targets: teacher"
            )
        return self

    @model_validator(mode="after")
    def _shares_are_of_a_mean(self) -> "Method":
        shares = self.targets.shares if isinstance(self.targets, TeacherTargets) else None
        if shares is not None and isinstance(self.training, Progressive):
            raise ValueError("targets: shares are of a mean, and progressive follows one teacher at a time; leave out")
        if shares is not None and not sum_to_one(shares):
            raise ValueError(f"targets: shares {list(shares)} sum to {sum(shares):g}; let them sum to 1")
        return self


def without_idle_settings(method: Method, kind: TaskKind) -> Method:
    """``method`` with fields that have no effect set to their defaults, so that equal trainings have equal keys: equal
    shares; temperature and reduction beside a distance other than KL; what a generator maximises where no divergence
    is compared, and all settings of its training if it has no turn; and of a task without classes, which has no
    softmax, also the distance and the calibration of teachers."""
    changes: dict[str, object] = {}
    targets, training = method.targets, method.training
    if isinstance(targets, TeacherTargets):
        equal = targets.shares is not None and len(set(targets.shares)) == 1
        changes["targets"] = TeacherTargets(
            shares=None if equal else targets.shares, calibrated=targets.calibrated and kind.has_classes
        )
    if isinstance(training, OnePhase) and (not kind.has_classes or training.distance != "kl"):
        distance = training.distance if kind.has_classes else "kl"
        changes["training"] = OnePhase(teacher_weight=training.teacher_weight, distance=distance)
    if isinstance(method.data, WithGenerator):
        divergence = isinstance(training, OnePhase) and training.distance == "kl" and kind.has_classes
        changes["data"] = _without_idle_turns(method.data, divergence)
    if isinstance(training, LayersFirst) and not kind.has_classes:
        changes["training"] = LayersFirst(first_phase=training.first_phase)
    return method.model_copy(update=changes)


def _without_idle_turns(data: WithGenerator, divergence: bool) -> WithGenerator:
    """``data`` without settings of the generator's training that have no effect. ``divergence``: whether the distance
    between student and teacher is a divergence of probabilities."""
    names = ("student_steps", "learning_rate", "temperature", "objective", "contrast")
    idle = names if not data.generator_steps else () if divergence else ("objective",)
    return data.model_copy(update={name: WithGenerator.model_fields[name].default for name in idle})


def check_teachers(method: Method, count: int) -> None:
    """Raise ValueError if ``method`` cannot learn from ``count`` teachers."""
    if isinstance(method.training, Progressive) and count < 2:
        raise ValueError(
            "training: progressive follows several teachers in turn, and there is one; name more, such as the "
            "teacher's epochs (taught_by: teacher:all)"
        )
    shares = method.targets.shares if isinstance(method.targets, TeacherTargets) else None
    if shares is not None and len(shares) != count:
        raise ValueError(f"targets: shares has {len(shares)} for {count} teachers; give one each")
    if count > 1 and not method.needs_logits:
        raise ValueError(f"taught_by: {count} teachers, but only their logits can be averaged; let one teach")
    if count > 1 and method.needs_layers and not isinstance(method.training, Progressive):
        raise ValueError(f"structure: the layers of which of {count} teachers? Let one teach, or structure: none")
    if count > 1 and method.needs_contrast:
        raise ValueError(f"data.contrast: the layers of which of {count} teachers? Let one teach, or contrast: null")
    if count > 1 and method.needs_tokens:
        raise ValueError(f"structure: tokens follows the layers of one teacher, not of {count}; let one teach")
    if count > 1 and method.needs_probes:
        raise ValueError(f"structure: outputs follows the layers of one teacher, not of {count}; let one teach")
