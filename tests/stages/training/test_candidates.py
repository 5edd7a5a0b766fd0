"""The candidates of a student: each row of train has its own, matched by key, with the teacher's outputs for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_tasks import TINY
from training_setups import inline, write_corpus

from stages.candidates.table import Candidate, finish, write_part
from stages.candidates.unlabelled import unlabelled
from stages.corpus.reader import read_split
from stages.corpus.rowset import Rowset, read_rowset
from stages.outputs.reader import read_columns
from stages.specs.axes.data import Minimax, Neighbours
from stages.specs.axes.targets import Hard, TeacherTargets
from stages.specs.axes.training import Annealing
from stages.specs.candidates import UnlabelledSpec
from stages.specs.method import Method
from stages.specs.schedule import OutputRequest
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.teaching.temperature import Calibration, write_calibration
from stages.training.candidates import CandidatePool
from stages.training.distil import distil
from stages.training.teachers import open_candidate_pool

K = 3
TRAIN = Train(epochs=1, batch_size=16)
EMPTY = (0, 7, 8)
"""Rows of train without candidates."""


def candidates_of(key: bytes, row: int) -> list[Candidate]:
    """0 to 3 texts that name the row's key, and one that several rows share; none of some rows."""
    own = [Candidate((f"text {n} of {key.hex()[:6]} " + "so " * (row % 4),), 0.1 * (n + 1)) for n in range(row % 3 + 1)]
    return [] if row in EMPTY else [*own[: K - 1], Candidate((f"shared by {row % 5}",), 0.5)]


def write_table(corpus: Path, out: Path, k: int = K) -> Path:
    """Write a candidate table for the distinct rows of train."""
    out.mkdir()
    keys = list(dict.fromkeys(read_split(corpus, "train").keys))
    write_part(out, 0, TINY.text, [(key, candidates_of(key, row)) for row, key in enumerate(keys)], {})
    finish(out, "neighbours", k, TINY.text, 1)
    return out


def labelled(corpus: Path, table: Path, teacher: Path, out: Path) -> dict[str, Path]:
    """The inputs of a training with this table."""
    for name in ("rows", "outputs"):
        (out / name).mkdir(parents=True)
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": corpus}, out / "rows", inline())
    spec = TeachSpec(layers=(), splits=("candidates",))
    teach(spec, {"corpus": out / "rows", "model": teacher}, out / "outputs", inline())
    return {"candidates": table, "candidate_rows": out / "rows", "candidate_outputs": out / "outputs"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, teacher: Path) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("candidates")
    return labelled(tiny_corpus, write_table(tiny_corpus, home / "table"), teacher, home)


def spec_with(k: int = K, **train: object) -> DistilSpec:
    method = Method(targets=TeacherTargets(), data=Neighbours(k=k))
    return DistilSpec(start=Cut(layers=(0, 2)), method=method, train=TRAIN.model_copy(update=train))


def opened(inputs: dict[str, Path], rows: Rowset, k: int = K) -> CandidatePool:
    found = open_candidate_pool(spec_with(k), inputs, rows)
    assert found is not None
    return found


def taken(rows: Rowset, order: Sequence[int]) -> Rowset:
    """These rows, in this order."""
    at = np.array(order)
    return Rowset(
        rows.examples.take(at),
        rows.labels[at],
        rows.labelled[at],
        [rows.row_keys[row] for row in order],
        rows.index[at],
    )


def held(found: CandidatePool, row: int) -> list[bytes]:
    """The keys of a row's candidates, by rank."""
    return [found.rows.row_keys[number] for number in found.table[row] if number >= 0]


def expected(table: Path, key: bytes, k: int = K) -> list[tuple[int, bytes, float]]:
    """(rank, key, distance) of a row's candidates, as the file has them."""
    found = pq.read_table(table / "candidates-00000.parquet").to_pylist()
    mine = [(one["rank"], one["candidate_key"], one["distance"]) for one in found if one["row_key"] == key]
    return sorted(one for one in mine if one[0] < k)


# --- the candidates of a row -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["as it is", "reversed", "mixed"])
def test_a_row_has_its_own_candidates_whatever_the_order_of_train(
    tiny_corpus: Path, inputs: dict[str, Path], order: str
) -> None:
    rows = read_rowset(tiny_corpus, "train")
    places = np.arange(len(rows))
    shuffled = {"as it is": places, "reversed": places[::-1], "mixed": np.random.default_rng(0).permutation(places)}
    mixed = taken(rows, shuffled[order].tolist())
    found = opened(inputs, mixed)
    assert found.table.shape == found.distances.shape == (len(rows), K)
    seen = 0
    for row, key in enumerate(mixed.row_keys):
        wanted = expected(inputs["candidates"], key)
        assert held(found, row) == [candidate for _, candidate, _ in wanted]
        assert found.distances[row][: len(wanted)].tolist() == pytest.approx([distance for *_, distance in wanted])
        assert np.isnan(found.distances[row][len(wanted) :]).all()
        seen += len(wanted)
    assert seen > 2 * len(rows)


def test_equal_rows_of_train_have_equal_candidates(tiny_corpus: Path, inputs: dict[str, Path]) -> None:
    rows = read_rowset(tiny_corpus, "train")
    found = opened(inputs, rows)
    places: dict[bytes, list[int]] = {}
    for row, key in enumerate(rows.row_keys):
        places.setdefault(key, []).append(row)
    twice = [several for several in places.values() if len(several) > 1]
    assert len(twice) > 1 and any(held(found, one) for one, *_ in twice)
    for one, *others in twice:
        assert all(found.table[one].tolist() == found.table[other].tolist() for other in others)


def test_the_signal_gives_the_stored_logits_of_each_candidates_text(tiny_corpus: Path, inputs: dict[str, Path]) -> None:
    found = opened(inputs, read_rowset(tiny_corpus, "train"))
    keys = list(found.rows.row_keys)
    outputs = found.signal.read(np.arange(len(keys)), OutputRequest(((0, 1.0),)))
    (logits,) = outputs.values()
    assert np.array_equal(logits.numpy(), read_columns(inputs["candidate_outputs"], ["logits"], keys)["logits"])


def test_candidates_of_a_calibrated_teacher_have_its_logits_divided_by_its_temperature(
    tiny_corpus: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    write_calibration(tmp_path, Calibration(2.5, 10, 0.5, 0.4, 0.2, 0.1))
    rows, request = read_rowset(tiny_corpus, "train"), OutputRequest(((0, 1.0),))
    method = Method(targets=TeacherTargets(calibrated=True), data=Neighbours(k=K))
    spec = spec_with().model_copy(update={"method": method})
    calibrated = open_candidate_pool(spec, {**inputs, "calibration": tmp_path}, rows)
    assert calibrated is not None
    every = np.arange(len(calibrated.rows.row_keys))
    plain = opened(inputs, rows).signal.read(every, request)["logits"].float()
    assert torch.equal(calibrated.signal.read(every, request)["logits"], plain / 2.5)


def test_a_method_with_a_smaller_k_uses_the_lowest_ranks(tiny_corpus: Path, inputs: dict[str, Path]) -> None:
    rows = read_rowset(tiny_corpus, "train")
    found = opened(inputs, rows, k=1)
    assert found.k == 1
    for row, key in enumerate(rows.row_keys):
        assert held(found, row) == [candidate for _, candidate, _ in expected(inputs["candidates"], key, 1)]


def test_rows_of_train_that_are_not_in_the_table_have_no_candidates(tiny_corpus: Path, inputs: dict[str, Path]) -> None:
    rows = read_rowset(tiny_corpus, "train")
    strange = Rowset(rows.examples, rows.labels, rows.labelled, [bytes(16)] * len(rows), rows.index)
    assert (opened(inputs, strange).table == -1).all()


def test_a_method_without_candidates_has_no_candidate_pool(tiny_corpus: Path) -> None:
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=Method(targets=Hard()), train=TRAIN)
    assert open_candidate_pool(spec, {}, read_rowset(tiny_corpus, "train")) is None


# --- what is refused ------------------------------------------------------------------------------------


def test_a_k_above_that_of_the_table_is_refused_in_one_line(tiny_corpus: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(ValueError) as caught:
        opened(inputs, read_rowset(tiny_corpus, "train"), k=K + 1)
    assert str(caught.value) == f"data.k: {K + 1}, but the candidate table has {K} a row; set data.k to at most {K}"


def test_candidates_that_are_not_among_the_tokenised_ones_are_refused(
    tiny_corpus: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    table = tmp_path / "table"
    table.mkdir()
    keys = read_split(tiny_corpus, "train").keys
    write_part(table, 0, TINY.text, [(keys[1], [Candidate(("a text that was not tokenised",))])], {})
    finish(table, "neighbours", K, TINY.text, 1)
    with pytest.raises(ValueError) as caught:
        opened({**inputs, "candidates": table}, read_rowset(tiny_corpus, "train"))
    assert str(caught.value) == "candidates: 1 of the table are not among the tokenised candidates; rebuild both"


def test_an_unfinished_table_is_refused(tiny_corpus: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no finished candidate table"):
        opened({**inputs, "candidates": tmp_path}, read_rowset(tiny_corpus, "train"))


# --- trained ----------------------------------------------------------------------------------------------


METHODS = {
    "all": Method(targets=TeacherTargets(), data=Neighbours(k=K)),
    "some": Method(targets=TeacherTargets(), data=Minimax(k=K, keep=1)),
    "some of an epoch": Method(targets=TeacherTargets(), data=Minimax(k=K, keep=2, every=1)),
    "in the first phase": Method(
        targets=TeacherTargets(), training=Annealing(max_temperature=1, first_phase=0.5), data=Neighbours(k=K)
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_rows_without_candidates_are_trained_on_as_well(
    tiny_corpus: Path, inputs: dict[str, Path], teacher: Path, store: Path, tmp_path: Path, name: str
) -> None:
    spec = DistilSpec(start=Cut(layers=(0, 2)), method=METHODS[name], train=TRAIN.model_copy(update={"epochs": 2}))
    given = {"corpus": tiny_corpus, "start": teacher, "outputs": store, **inputs}
    facts = distil(spec, given, tmp_path, inline())
    assert facts["rows"] == len(read_rowset(tiny_corpus, "train"))


def test_a_training_whose_rows_have_no_candidates_equals_one_without_a_table(
    tiny_corpus: Path, teacher: Path, store: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """The only candidate of the table belongs to a row that is not in train. The weights are the same, bit for bit."""
    from safetensors.numpy import load_file

    keys = read_split(tiny_corpus, "train").keys
    table = tmp_path / "table"
    table.mkdir()
    write_part(table, 0, TINY.text, [(bytes(16), [Candidate(("of no row at all",))]), (keys[0], [])], {})
    finish(table, "neighbours", K, TINY.text, 1)
    none = labelled(tiny_corpus, table, teacher, tmp_path / "none")
    given = {"corpus": tiny_corpus, "start": teacher, "outputs": store}
    found = []
    for name, spec, more in (
        ("with", spec_with(), none),
        ("without", spec_with().model_copy(update={"method": Method(targets=TeacherTargets())}), {}),
        ("some", spec_with(), inputs),
    ):
        (tmp_path / f"out-{name}").mkdir()
        distil(spec, {**given, **more}, tmp_path / f"out-{name}", inline())
        found.append(load_file(tmp_path / f"out-{name}" / "model" / "model.safetensors"))
    one, other, candidates = found
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert any(not np.array_equal(one[name], candidates[name]) for name in one)


def test_the_order_of_the_train_file_does_not_change_a_rows_candidates(
    encoder: Path, tiny_corpus: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """A corpus from the reversed file finds the same candidates for each row."""
    folder = tmp_path / "data"
    folder.mkdir()
    train = read_split(tiny_corpus, "train")
    rows = {"sentence": [texts[0] for texts in train.texts()][::-1], "label": train.labels.tolist()[::-1]}
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table(rows), folder / f"{split}.parquet")
    other = read_rowset(write_corpus(TINY, folder, encoder, tmp_path / "corpus"), "train")
    found, was = opened(inputs, other), opened(inputs, read_rowset(tiny_corpus, "train"))
    before = {key: held(was, row) for row, key in enumerate(train.keys)}
    assert list(other.row_keys) != list(train.keys)[: len(other)]
    for row, key in enumerate(other.row_keys):
        assert held(found, row) == before[key]
