"""No method that reads a store runs the teacher while a student is trained, whatever of it is followed."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import TINY
from lessons import inline
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import PreTrainedModel

from stages.distil import distil
from stages.groups import groups_of, resolved, teacher_layers
from stages.method import (
    Annealing,
    Continuation,
    Hard,
    Method,
    OnePhase,
    Progressive,
    Smoothed,
    Taught,
    Virtual,
    check_teachers,
)
from stages.models import build
from stages.probe import probe
from stages.specs import Cut, DistilSpec, Pretrained, ProbeSpec, TeachSpec, Train
from stages.structure import Attend, Concatenate, NoLayers, Outputs, Pick, Random, Relational, Structure
from stages.teach import teach

TEACHER, STUDENT = 3, 2
"""Layers of either."""

TRAININGS = {
    "one-phase": OnePhase(temperature=2.0),
    "annealing": Annealing(max_temperature=2, first_phase=0.5),
    "continuation": Continuation(max_temperature=2),
    "progressive": Progressive(first_phase=0.5),
}
STRUCTURES: dict[str, Structure] = {
    "none": NoLayers(),
    "pick": Pick(normalised=True),
    "concatenate": Concatenate(),
    "attend": Attend(),
    "random": Random(width=8),
    "relational": Relational(),
    "outputs": Outputs(),
}
METHODS = {
    "hard": Method(),
    "smoothed": Method(targets=Smoothed()),
    "virtual": Method(targets=Virtual()),
    **{
        f"{training}, {structure}": Method(
            targets=Taught(), training=TRAININGS[training], structure=STRUCTURES[structure]
        )
        for training in TRAININGS
        for structure in STRUCTURES
        if (training, structure) != ("progressive", "outputs")  # the probes are of one teacher
    },
    **{f"hard, {name}": Method(targets=Hard(), structure=structure) for name, structure in STRUCTURES.items()},
    "shares": Method(targets=Taught(shares=(0.3, 0.7))),
}


@contextmanager
def forwards() -> Iterator[Counter[int]]:
    """How often a model of each depth runs meanwhile."""
    ran: Counter[int] = Counter()

    def count(module: nn.Module, _given: object) -> None:
        if isinstance(module, PreTrainedModel):
            ran[module.config.num_hidden_layers] += 1

    handle = register_module_forward_pre_hook(count)
    try:
        yield ran
    finally:
        handle.remove()


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory, encoder: Path, tiny_corpus: Path) -> Path:
    """What a second teacher of the same depth says."""
    home = tmp_path_factory.mktemp("other")
    torch.manual_seed(4)
    build(Pretrained(), encoder, TINY).save_pretrained(home / "model")
    (home / "store").mkdir()
    teach(TeachSpec(), {"corpus": tiny_corpus, "model": home / "model"}, home / "store", inline())
    return home / "store"


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, store: Path) -> Path:
    out = tmp_path_factory.mktemp("probes")
    probe(ProbeSpec(layers=(1, 2, 3)), {"corpus": tiny_corpus, "outputs": store}, out, inline())
    return out


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_lies_beside_its_student_and_is_never_run(
    name: str, tiny_corpus: Path, teacher: Path, store: Path, other_store: Path, probes: Path, tmp_path: Path
) -> None:
    given = METHODS[name]
    method = given.model_copy(update={"structure": resolved(given.structure, STUDENT, TEACHER, seed=0)})
    inputs = {"corpus": tiny_corpus, "start": teacher}
    if isinstance(method.training, Progressive) or name == "shares":
        check_teachers(method, 2)
        inputs |= {"outputs/0": store, "outputs/1": other_store}
    elif method.needs_teacher:
        inputs |= {"outputs": store}
    if method.needs_probes:
        inputs |= {"probes": probes}
        assert set(teacher_layers(groups_of(method.structure))) <= {1, 2, 3}
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=method, train=Train(epochs=2, batch_size=32))
    with forwards() as ran:
        facts = distil(spec, inputs, tmp_path, inline())
    assert isinstance(facts["rows"], int)
    steps = spec.train.epochs * -(-facts["rows"] // spec.train.batch_size)
    assert ran[STUDENT] >= steps, "the student's are counted"
    assert ran.keys() == {STUDENT}


def test_a_teacher_that_runs_is_counted(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    with forwards() as ran:
        teach(TeachSpec(), {"corpus": tiny_corpus, "model": teacher}, tmp_path, inline())
    assert ran.keys() == {TEACHER} and ran[TEACHER] > 0


def test_fitting_classifiers_on_its_layers_does_not_run_it_either(
    tiny_corpus: Path, store: Path, tmp_path: Path
) -> None:
    with forwards() as ran:
        probe(ProbeSpec(layers=(1, 3)), {"corpus": tiny_corpus, "outputs": store}, tmp_path, inline())
    assert not ran
