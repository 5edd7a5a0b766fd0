"""No method that reads stores runs the teacher while a student is trained, whatever outputs it uses, with or without
candidates."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from banks import sentences, write_parquet
from tiny_tasks import TINY
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from training_setups import inline
from transformers import PreTrainedModel

from stages.bank.bank import bank
from stages.candidates.neighbours import neighbours
from stages.candidates.transfer import transfer
from stages.candidates.unlabelled import unlabelled
from stages.models.loading import build
from stages.retrieval.embed import embed
from stages.retrieval.index import index
from stages.specs.axes.data import Data, Minimax, Neighbours
from stages.specs.axes.structures import NoLayers
from stages.specs.axes.targets import Hard, Smoothed, TeacherTargets, Virtual
from stages.specs.axes.training import Annealing, Continuation, OnePhase, Progressive
from stages.specs.bank import BankSpec
from stages.specs.candidates import NeighboursSpec, TransferSpec, UnlabelledSpec
from stages.specs.layer_map import teacher_layers
from stages.specs.layers import Attend, Concatenate, Outputs, Pick, Random, Relational, Structure
from stages.specs.method import Method, check_teachers
from stages.specs.retrieval import EmbedSpec, IndexSpec
from stages.specs.student import Cut, DistilSpec, Pretrained, Train
from stages.specs.teacher import ProbeSpec, TeachSpec
from stages.teaching.probe import probe
from stages.teaching.teach import teach
from stages.training.distil import distil

TEACHER, STUDENT = 3, 2
"""Number of layers of each model."""

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
DATA: dict[str, Data] = {
    "knn": Neighbours(k=4),
    "minimax-knn of each step": Minimax(k=4, keep=2),
    "minimax-knn of each epoch": Minimax(k=4, keep=2, every=1),
}
METHODS = {
    "hard": Method(),
    "smoothed": Method(targets=Smoothed()),
    "virtual": Method(targets=Virtual()),
    **{
        f"{training}, {structure}": Method(
            targets=TeacherTargets(), training=TRAININGS[training], structure=STRUCTURES[structure]
        )
        for training in TRAININGS
        for structure in STRUCTURES
        if (training, structure) != ("progressive", "outputs")  # the probes are of one teacher
    },
    **{f"hard, {name}": Method(targets=Hard(), structure=structure) for name, structure in STRUCTURES.items()},
    "shares": Method(targets=TeacherTargets(shares=(0.3, 0.7))),
    **{name: Method(targets=TeacherTargets(), data=data) for name, data in DATA.items()},
    **{
        f"{training}, {structure}, {name}": Method(
            targets=TeacherTargets(), training=TRAININGS[training], structure=STRUCTURES[structure], data=data
        )
        for training, structure in (("annealing", "pick"), ("continuation", "relational"), ("progressive", "none"))
        for name, data in DATA.items()
    },
}


@contextmanager
def forwards() -> Iterator[Counter[int]]:
    """Counts the forward passes within the block, by the depth of the model."""
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
    """The store of a second teacher of the same depth."""
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


def embedded(files: Path, encoder: Path, home: Path) -> dict[str, Path]:
    """The bank with its embeddings and its index."""
    for name in ("bank", "embeddings", "index"):
        (home / name).mkdir()
    bank(BankSpec(), {"files/0": files}, home / "bank", inline())
    given = {"bank": home / "bank", "encoder": encoder}
    embed(EmbedSpec(), given, home / "embeddings", inline())
    index(IndexSpec(), {"embeddings": home / "embeddings"}, home / "index", inline())
    return {**given, "embeddings": home / "embeddings", "index": home / "index"}


@pytest.fixture(scope="module")
def candidates(
    tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path, encoder: Path, other_store: Path
) -> dict[str, dict[str, Path]]:
    """By stage that makes candidates: the table, its tokens, and the outputs of two teachers for them."""
    home = tmp_path_factory.mktemp("beside")
    files = write_parquet(home / "bank.parquet", sentences(60))
    searched = {"corpus": tiny_corpus, **embedded(files, encoder, home)}
    found = {}
    for maker in ("neighbours", "transfer"):
        table, rows = home / maker, home / f"{maker}-rows"
        table.mkdir()
        if maker == "neighbours":
            neighbours(NeighboursSpec(k=4), searched, table, inline())
        else:
            transfer(TransferSpec(k=4), searched, table, inline())
        unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, rows, inline())
        found[maker] = {"candidates": table, "candidate_rows": rows}
        for number, speaker in enumerate((teacher, other_store.parent / "model")):
            outputs = home / f"{maker}-said-{number}"
            outputs.mkdir()
            spec = TeachSpec(layers=(), splits=("candidates",))
            teach(spec, {"corpus": rows, "model": speaker}, outputs, inline())
            found[maker][f"candidate_outputs/{number}"] = outputs
    return found


def alone(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """The inputs with only the first teacher."""
    kept = {name: path for name, path in inputs.items() if not name.startswith("candidate_outputs")}
    return {**kept, "candidate_outputs": inputs["candidate_outputs/0"]}


@pytest.mark.parametrize("name", METHODS)
def test_no_training_from_stores_runs_its_teacher(
    name: str,
    tiny_corpus: Path,
    teacher: Path,
    store: Path,
    other_store: Path,
    probes: Path,
    candidates: dict[str, dict[str, Path]],
    tmp_path: Path,
) -> None:
    given = METHODS[name]
    method = given.model_copy(update={"structure": given.structure.resolved(STUDENT, TEACHER)})
    inputs = {"corpus": tiny_corpus, "start": teacher}
    if isinstance(method.training, Progressive) or name == "shares":
        check_teachers(method, 2)
        inputs |= {"outputs/0": store, "outputs/1": other_store}
    elif method.needs_teacher:
        inputs |= {"outputs": store}
    if method.needs_probes:
        inputs |= {"probes": probes}
        assert set(teacher_layers(method.structure.layer_groups())) <= {1, 2, 3}
    if method.needs_candidates:
        given_beside = candidates["transfer" if "continuation" in name else "neighbours"]
        inputs |= given_beside if "outputs/1" in inputs else alone(given_beside)
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=method, train=Train(epochs=2, batch_size=32))
    with forwards() as ran:
        facts = distil(spec, inputs, tmp_path, inline())
    assert isinstance(facts["rows"], int)
    steps = spec.train.epochs * -(-facts["rows"] // spec.train.batch_size)
    assert ran[STUDENT] >= steps, "the student's are counted"
    assert ran.keys() == {STUDENT}
    if method.needs_candidates:
        epochs = json.loads((tmp_path / "history.json").read_text("utf-8"))["epochs"]
        assert epochs[0]["candidates"]["used"] > 0


def test_a_run_of_the_teacher_would_be_counted(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    with forwards() as ran:
        teach(TeachSpec(), {"corpus": tiny_corpus, "model": teacher}, tmp_path, inline())
    assert ran.keys() == {TEACHER} and ran[TEACHER] > 0


def test_fitting_layer_classifiers_does_not_run_the_teacher(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    with forwards() as ran:
        probe(ProbeSpec(layers=(1, 3)), {"corpus": tiny_corpus, "outputs": store}, tmp_path, inline())
    assert not ran
