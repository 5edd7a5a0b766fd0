"""What is left of a candidate table when the teacher has judged it, against a plain reading of the rules."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from training_setups import RecordingListener, inline

from cluster.inline import InlineOn, InlineWorker
from cluster.resources import Resources
from stages.candidates.rerank import rerank
from stages.candidates.rerank_rules import Scores, balanced, first_of_each_row, highest_probability
from stages.candidates.table import Candidate, finish, read_candidates, read_table_meta, write_part
from stages.candidates.unlabelled import unlabelled
from stages.corpus.row_key import row_key
from stages.outputs.layout import Layout, write_store
from stages.outputs.parquet import write_shard
from stages.outputs.reader import read_columns
from stages.specs.candidates import RerankSpec
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach

ROWS, TEXTS, WIDTH = 14, 40, 6
Entry = tuple[bytes, int, float, bytes, str]
"""A row of a table: row_key, rank, distance, candidate_key, text."""


class Backwards(InlineOn):
    """Another place to run: a worker an item, the last item first."""

    def map(
        self, open_worker: Callable[[Any, InlineWorker], Callable[[Any], Any]], config: Any, items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            yield index, open_worker(config, self._worker())(items[index])


@dataclass(frozen=True)
class Scene:
    """A table, the two stores, and what they say: by key, from float16 as it is stored."""

    inputs: dict[str, Path]
    logits: dict[bytes, np.ndarray]
    states: dict[bytes, np.ndarray]


def write_said(directory: Path, keys: Sequence[bytes], logits: np.ndarray, states: np.ndarray, layer: int = 2) -> Path:
    """A store in two shards, its rows in another order than anybody's."""
    directory.mkdir()
    layout = Layout("pooled", (0, layer), WIDTH, 2, logits.shape[1], "mean", "float16")
    order, files = np.argsort(keys), []
    for number, part in enumerate(np.array_split(order, 2)):
        columns = {"hidden_00": np.zeros((len(part), WIDTH), np.float16), f"hidden_{layer:02d}": states[part]}
        files.append(write_shard(directory, number, layout, [keys[row] for row in part], logits[part], columns))
    write_store(directory, layout, "rule", files)
    return directory


def scene_of(home: Path, outputs: int = 3, known: bool = True) -> Scene:
    """Row i has i % 5 candidates in parts of four rows; texts come again. One candidate is where its row is."""
    home.mkdir(exist_ok=True)
    generator = np.random.Generator(np.random.PCG64(11))
    rows = [row_key((f"row {row}",)) for row in range(ROWS)]
    texts = [f"text {number}" for number in range(TEXTS)]
    keys = [row_key((text,)) for text in texts]
    said = [generator.normal(0, 2, (count, outputs)).astype(np.float32) for count in (ROWS, TEXTS)]
    states = [generator.normal(0, 1, (count, WIDTH)).astype(np.float16) for count in (ROWS, TEXTS)]
    said[1][:, 0] += 1
    table = home / "table"
    table.mkdir()
    found = []
    for row in range(ROWS):
        several = [(row * 3 + number) % TEXTS for number in range(row % 5)]
        distance = [round(0.1 * number + 0.01 * row, 3) if known else math.nan for number in range(row % 5)]
        found.append((rows[row], [Candidate((texts[t],), d) for t, d in zip(several, distance, strict=True)]))
    states[1][9 * 3 + 1] = 2 * states[0][9]
    for number, start in enumerate(range(0, ROWS, 4)):
        write_part(table, number, ("sentence",), found[start : start + 4], {})
    finish(table, "neighbours", 4, ("sentence",), 4)
    inputs = {
        "candidates": table,
        "outputs": write_said(home / "outputs", rows, said[0], states[0]),
        "candidate_outputs": write_said(home / "candidate_outputs", keys, said[1], states[1]),
    }
    by_key = dict(zip(rows + keys, np.concatenate(states).astype(np.float64), strict=True))
    return Scene(inputs, dict(zip(keys, said[1].astype(np.float64), strict=True)), by_key)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_of(tmp_path_factory.mktemp("scene") / "one")


def entries(table: Path) -> list[Entry]:
    columns = read_candidates(table)
    names = ("row_key", "rank", "distance", "candidate_key", "sentence")
    return list(zip(*(columns[name].to_pylist() for name in names), strict=True))


def reranked(spec: RerankSpec, scene: Scene, out: Path) -> tuple[list[Entry], dict[str, object]]:
    out.mkdir(exist_ok=True)
    facts = rerank(spec, scene.inputs, out, inline())
    return entries(out), facts


def angle(one: np.ndarray, other: np.ndarray) -> float:
    cosine = one @ other / math.sqrt((one @ one) * (other @ other))
    return 0.0 if cosine > 1 - 1e-9 else math.acos(cosine) / math.pi


def expected(spec: RerankSpec, scene: Scene) -> list[tuple[bytes, int, float, str]]:
    """The rules, one after another, in plain Python."""
    left = entries(scene.inputs["candidates"])
    low, high = spec.confidence
    if spec.confidence != (0.0, 1.0):
        left = [entry for entry in left if low <= max(softmax(scene.logits[entry[3]])) <= high]
    if spec.rerank:
        left = [(key, rank, angle(scene.states[key], scene.states[own]), own, text) for key, rank, _, own, text in left]
        left = [entry for entry in left if entry[2] and spec.min_distance <= entry[2] <= spec.max_distance]
    if spec.balance is not None:
        classes = [int(np.argmax(scene.logits[entry[3]])) for entry in left]
        most = int(spec.balance * min(Counter(classes).values()))
        for label in set(classes):
            own = sorted((entry for entry, of in zip(left, classes, strict=True) if of == label), key=lambda e: e[2])
            gone = own[most:]
            pairs = [(entry, of) for entry, of in zip(left, classes, strict=True) if entry not in gone]
            left, classes = [entry for entry, _ in pairs], [of for _, of in pairs]
    found = []
    for key in dict.fromkeys(entry[0] for entry in left):
        own = [entry for entry in left if entry[0] == key]
        own = sorted(own, key=lambda entry: entry[2]) if spec.rerank else own
        found += [(key, rank, entry[2], entry[4]) for rank, entry in enumerate(own[: spec.k])]
    return found


# --- rules, as functions ------------------------------------------------------------------------------------


def test_the_highest_probability_is_that_of_the_softmax() -> None:
    logits = np.random.Generator(np.random.PCG64(0)).normal(0, 30, (50, 4)).astype(np.float32)
    assert highest_probability(logits) == pytest.approx(softmax(logits.astype(np.float64), axis=1).max(1), rel=1e-12)


@pytest.mark.parametrize("times", [1.0, 1.5, 3.0, 100.0])
def test_no_class_keeps_more_than_so_many_times_the_rarest_and_the_nearest_stay(times: float) -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    label = generator.choice([0, 2, 3], 300, p=[0.7, 0.2, 0.1])
    mask, distance = generator.random(300) < 0.8, generator.random(300)
    tie = generator.integers(0, 2**60, 300).astype(np.uint64)
    kept = balanced(Scores(mask, label, distance), np.zeros(300, np.int64), tie, times)
    before = {of: int((mask & (label == of)).sum()) for of in (0, 2, 3)}
    most = int(times * min(before.values()))
    assert not (kept & ~mask).any()
    for of, count in before.items():
        own = kept & (label == of)
        assert own.sum() == min(count, most)
        gone = mask & ~kept & (label == of)
        assert not gone.any() or distance[own].max() < distance[gone].min()


def test_what_is_equally_far_stays_by_rank_and_then_by_what_follows_from_its_keys() -> None:
    label, rank = np.array([0, 1, 1, 1, 1]), np.array([0, 1, 0, 1, 1])
    tie = np.array([0, 9, 5, 7, 8], np.uint64)
    scores = Scores(np.ones(5, np.bool_), label, np.full(5, np.nan))
    assert balanced(scores, rank, tie, 2.0).tolist() == [True, False, True, True, False]
    nobody = Scores(np.zeros(5, np.bool_), label, np.zeros(5))
    assert not balanced(nobody, rank, tie, 2.0).any()


def test_the_first_of_a_row_go_by_distance_and_then_by_rank() -> None:
    row, rank = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 0])
    distance, kept = np.array([0.3, 0.1, 0.1, 0.5, 0.4, 0.9]), np.array([1, 1, 1, 1, 1, 0], np.bool_)
    assert first_of_each_row(row, rank, distance, kept, 2).tolist() == [1, 2, 4, 3]
    assert first_of_each_row(row, rank, None, kept, 2).tolist() == [0, 1, 3, 4]
    assert first_of_each_row(row, rank, distance, np.zeros(6, np.bool_), 2).tolist() == []


# --- the stage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_without_options_the_first_k_of_each_row_are_left_as_they_were(known: bool, tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "scene", known=known)
    before = entries(scene.inputs["candidates"])
    found, facts = reranked(RerankSpec(k=3), scene, tmp_path / "out")
    assert repr(found) == repr([entry for entry in before if entry[1] < 3])
    assert facts["by_k"] == len(before) - len(found) == 2
    assert (facts["rows"], facts["rows_with_fewer"]) == (ROWS, ROWS - 5)
    meta = read_table_meta(tmp_path / "out")
    assert (meta.maker, meta.k, meta.parts, set(meta.facts)) == ("sift", 3, 4, {"by_k"})


@pytest.mark.parametrize(
    "options",
    [
        {"confidence": (0.6, 0.95)},
        {"confidence": (0.0, 0.7), "k": 1},
        {"rerank": True},
        {"rerank": True, "min_distance": 0.3, "max_distance": 0.6, "k": 2},
        {"balance": 1.0},
        {"balance": 2.0, "k": 2},
        {"confidence": (0.5, 1.0), "rerank": True, "max_distance": 0.62, "balance": 1.5, "k": 2},
    ],
)
def test_the_rules_take_in_their_order_what_they_say(options: dict[str, Any], scene: Scene, tmp_path: Path) -> None:
    spec = RerankSpec.model_validate(options)
    found, facts = reranked(spec, scene, tmp_path)
    reference = expected(spec, scene)
    assert [(key, rank, text) for key, rank, _, _, text in found] == [
        (key, rank, text) for key, rank, _, text in reference
    ]
    assert [entry[2] for entry in found] == pytest.approx([entry[2] for entry in reference], abs=1e-6)
    before = len(entries(scene.inputs["candidates"]))
    taken = [value for name, value in facts.items() if name.startswith("by_")]
    assert 0 < len(found) < before
    assert sum(int(str(value)) for value in taken) == before - len(found)
    assert facts["rows"] == ROWS


def test_a_candidate_where_the_row_is_goes_when_the_teacher_orders(scene: Scene, tmp_path: Path) -> None:
    found, facts = reranked(RerankSpec(rerank=True), scene, tmp_path)
    assert facts["by_rerank"] == 1
    assert (row_key(("row 9",)), row_key(("text 28",))) not in [(entry[0], entry[3]) for entry in found]


def test_who_does_which_part_and_a_cut_decide_nothing(scene: Scene, tmp_path: Path) -> None:
    spec = RerankSpec(k=2, rerank=True, balance=1.5)
    one, other = tmp_path / "one", tmp_path / "other"
    found, facts = reranked(spec, scene, one)
    whole = [part.read_bytes() for part in sorted(one.glob("candidates-*"))]
    other.mkdir()
    assert rerank(spec, scene.inputs, other, Backwards(Resources(workers=3), RecordingListener())) == facts
    assert [part.read_bytes() for part in sorted(other.glob("candidates-*"))] == whole
    (other / "candidates-00001.parquet").unlink()
    (other / "candidates.json").unlink()
    heard = RecordingListener()
    assert rerank(spec, scene.inputs, other, inline(heard)) == facts
    assert [part.read_bytes() for part in sorted(other.glob("candidates-*"))] == whole
    assert heard.expected == [heard.done]
    assert not list((other / "scratch").iterdir())
    assert entries(other) == found


def test_it_sifts_what_a_teacher_said_of_the_unlabelled_texts_of_a_table(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    """The way from a table to a table, on a real model; the row's own text is at 0 and goes."""
    from stages.corpus.reader import read_split
    from stages.specs.candidates import UnlabelledSpec

    split = read_split(tiny_corpus, "train")
    own = dict(zip(split.keys, split.texts(), strict=True))
    table, texts, said, out = (tmp_path / name for name in ("table", "texts", "said", "out"))
    for folder in (table, said):
        folder.mkdir()
    more = [Candidate((f"a {word} story",), 0.2) for word in ("fine", "dull", "strange")]
    write_part(table, 0, ("sentence",), [(key, [Candidate(text, 0.1), *more]) for key, text in own.items()], {})
    finish(table, "neighbours", 4, ("sentence",), 1)
    unlabelled(UnlabelledSpec(), {"candidates": table, "corpus": tiny_corpus}, texts, inline())
    teach(TeachSpec(splits=("candidates",)), {"corpus": texts, "model": teacher, "prior/0": store}, said, inline())
    inputs = {"candidates": table, "outputs": store, "candidate_outputs": said}
    found, facts = reranked(RerankSpec(k=2, rerank=True), Scene(inputs, {}, {}), out)
    assert facts["by_rerank"] == facts["by_k"] == len(own)
    keys = [entry[3] for entry in found]
    rows, others = (
        read_columns(place, ["hidden_03"], names)["hidden_03"].astype(np.float64)
        for place, names in ((store, [entry[0] for entry in found]), (said, keys))
    )
    assert [entry[2] for entry in found] == pytest.approx(
        [angle(one, other) for one, other in zip(rows, others, strict=True)], abs=1e-6
    )
    assert all(one[2] <= two[2] for one, two in zip(found[::2], found[1::2], strict=True))


# --- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"confidence": (0.9, 0.5)}, r"^confidence: \[0\.9, 0\.5\] leaves nothing"),
        ({"rerank": True, "min_distance": 0.5, "max_distance": 0.5}, r"^min_distance: 0\.5, but max_distance is 0\.5"),
        ({"max_distance": 0.5}, r"^min_distance and max_distance: .* set rerank"),
        (
            {"rerank": True, "pooling": "cls"},
            r"holds layers \[0, 2\], pooling mean, but layer 2, pooling cls is needed",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], wrong: str, scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=wrong):
        rerank(RerankSpec.model_validate(options), scene.inputs, tmp_path, inline())


@pytest.mark.parametrize("options", [{"confidence": (0.5, 1.0)}, {"balance": 2.0}])
def test_a_regression_has_neither_probabilities_nor_classes(options: dict[str, Any], tmp_path: Path) -> None:
    scene = scene_of(tmp_path / "scene", outputs=1)
    name = next(iter(options))
    with pytest.raises(
        ValueError, match=rf"^{name}: a regression has neither probabilities nor classes; leave it out$"
    ):
        rerank(RerankSpec.model_validate(options), scene.inputs, tmp_path, inline())
    found, _ = reranked(RerankSpec(rerank=True), scene, tmp_path / "out")
    assert found


def test_the_last_layer_must_be_in_both_stores(scene: Scene, tmp_path: Path) -> None:
    keys = [row_key((f"row {row}",)) for row in range(ROWS)]
    logits, states = np.zeros((ROWS, 3), np.float32), np.ones((ROWS, WIDTH), np.float16)
    inputs = {**scene.inputs, "outputs": write_said(tmp_path / "said", keys, logits, states, layer=1)}
    with pytest.raises(ValueError, match=r"holds layers \[0, 1\], pooling mean, but layer 2"):
        rerank(RerankSpec(rerank=True), inputs, tmp_path, inline())


def test_a_store_of_other_texts_is_refused(scene: Scene, tmp_path: Path) -> None:
    inputs = {**scene.inputs, "candidate_outputs": scene.inputs["outputs"]}
    with pytest.raises(ValueError, match="the store lacks"):
        rerank(RerankSpec(rerank=True), inputs, tmp_path, inline())


def test_the_output_is_pinned_to_its_version(scene: Scene, tmp_path: Path) -> None:
    spec = RerankSpec(k=3, confidence=(0.4, 0.99), rerank=True, balance=2.0)
    found, _ = reranked(spec, scene, tmp_path)
    told = repr([(key, rank, own, text) for key, rank, _, own, text in found])
    assert (RerankSpec.version, hashlib.sha256(told.encode()).hexdigest()[:16]) == (1, "025ec7aa93663a1b")
    assert [entry[2] for entry in found[:3]] == pytest.approx([0.40771, 0.28148, 0.48129], abs=1e-4)
