"""The named methods: points on the axes that papers have tried, each with the paper's own settings.

A name is only a starting point. A recipe takes one with ``use`` and changes what it likes on any axis;
the axes themselves are in ``stages/specs.py``. Where paper and released code differ, ``about`` says
which one the defaults follow.
"""

from dataclasses import dataclass

from pipeline.errors import RequestError, nearest
from stages.method import Annealing, Hard, Method, OnePhase, Smoothed, Taught
from stages.structure import Concatenate, NoLayers, Pick


@dataclass(frozen=True, slots=True)
class NamedMethod:
    """A method with a name. ``about`` says what it does and where its defaults come from."""

    name: str
    title: str
    paper: str
    about: str
    method: Method

    @property
    def needs(self) -> str:
        """What it asks of the teacher. It follows from the method, so it cannot be stated wrongly."""
        structure = self.method.structure
        asked = ["logits"] if self.method.needs_logits else []
        if not isinstance(structure, NoLayers):
            asked.append(f"{structure.pooling}-pooled states of layers")
        return " and ".join(asked) or "nothing"


METHODS: tuple[NamedMethod, ...] = (
    NamedMethod(
        name="no-kd",
        title="No distillation",
        paper="-",
        about="Cross-entropy with the labels, or the squared error for a regression: what every method has to beat.",
        method=Method(targets=Hard()),
    ),
    NamedMethod(
        name="label-smoothing",
        title="Label smoothing",
        paper="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, sec. 7",
        about="Cross-entropy with (1 - epsilon) q + epsilon u, u uniform: a teacher that knows nothing. "
        "epsilon 0.1 is the paper's. Cannot be defined for a regression.",
        method=Method(targets=Smoothed(epsilon=0.1)),
    ),
    NamedMethod(
        name="vanilla-kd",
        title="Vanilla KD",
        paper="Hinton et al. 2015, Distilling the Knowledge in a Neural Network",
        about="(1 - w) CE + w tau^2 KL(teacher || student), KL summed over labels and averaged over rows. "
        "tau 2 and w 0.5 are those of the released minimax-kNN code (its README says tau 5). "
        "For a regression: (1 - w) squared error to the label + w squared error to the teacher.",
        method=Method(targets=Taught(), training=OnePhase(temperature=2.0, teacher_weight=0.5)),
    ),
    NamedMethod(
        name="annealing-kd",
        title="Annealing KD",
        paper="Jafari et al. 2021, Annealing Knowledge Distillation, EACL",
        about="Phase 1: squared error to the teacher's logits times Phi(T) = 1 - (T - 1) / tau_max, T falling from "
        "tau_max to 1, no labels. Phase 2: cross-entropy with the labels alone, with a fresh optimizer. "
        "tau_max 7 and 14 of 20 epochs in phase 1 are the authors' for DistilRoBERTa on GLUE "
        "(the README of their code has 14 + 4, the defaults of the code tau_max 10 and 10 + 3).",
        method=Method(targets=Taught(), training=Annealing(max_temperature=7, first_phase=0.7)),
    ),
    NamedMethod(
        name="pkd",
        title="Patient KD",
        paper="Sun et al. 2019, Patient Knowledge Distillation for BERT Model Compression, EMNLP",
        about="Vanilla KD, and student layer j of m follows layer floor(j n / m) of n, the last left out (the paper's "
        "skip map): weight times the squared error of the states, each scaled to length 1 (eq. 7), mean over layers "
        "and dimensions as in the authors' code, for which weight 100 (their beta) is chosen; the paper's sum would be "
        "layers times dimensions as large. tau 10 and w 0.5 are the code's for SST-2. What differs: the code scales "
        "states to length 1 for RTE only, takes the mean of KL over labels too (so its w is worth less), never "
        "shuffles, and takes the first token's state where the default here is the mean over tokens (pooling).",
        method=Method(
            targets=Taught(),
            training=OnePhase(temperature=10.0, teacher_weight=0.5),
            structure=Pick(normalised=True, weight=100.0),
        ),
    ),
    NamedMethod(
        name="ckd",
        title="Combinatorial KD",
        paper="Wu et al. 2020, Why Skip If You Can Combine: A Simple Knowledge Distillation Technique for Intermediate "
        "Layers, EMNLP",
        about="Vanilla KD, and student layer j, projected up, follows the j-th of equal runs of the teacher's layers, "
        "concatenated: weight times the squared error, mean over groups and dimensions. The projections are trained "
        "with the student and not saved in it. The authors weigh CE 0.1, KD 0.2 and layers 0.7 (translation): w and "
        "weight are these over the sum of the first two, which is the same but for the scale of the whole, to "
        "which AdamW is blind. tau 2 is that of vanilla-kd; theirs is not known to us.",
        method=Method(
            targets=Taught(),
            training=OnePhase(temperature=2.0, teacher_weight=0.667),
            structure=Concatenate(weight=2.333),
        ),
    ),
)


def find(name: str) -> NamedMethod:
    """The method of that name. RequestError names the nearest."""
    for named in METHODS:
        if named.name == name:
            return named
    raise RequestError(f"method: {name} is no method; {nearest(name, (named.name for named in METHODS))}")
