"""Classifiers on stored layers: what they say is what an independent fit of the same rows says, kept as a store."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.optimize import minimize
from training_setups import RecordingListener, inline

import stages.teaching.teach
from stages.cache_folder import CacheFolder
from stages.corpus.reader import read_split
from stages.outputs.layer_variance import layer_variances
from stages.outputs.layout import Layout, read_store, write_store
from stages.outputs.node_cache import decode
from stages.outputs.parquet import write_shard
from stages.outputs.reader import read_columns
from stages.outputs.verify import check_store
from stages.specs.tasks import Task
from stages.specs.teacher import ProbeSpec, TeachSpec
from stages.teaching.folds import fold_of
from stages.teaching.linear_probe import LabelledStates, fit
from stages.teaching.probe import probe
from stages.teaching.teach import distinct_keys, teach

THREE = Task(name="three", text=("text",), labels=("a", "b", "c"))
NUMBER = Task(name="number", text=("text",), metrics=("pearson",))
GENERATOR = np.random.Generator(np.random.PCG64(5))
STATES = (GENERATOR.normal(size=(60, 4)) * [1, 30, 0.01, 2] + [0, 500, 3, 0]).astype(np.float32)
TRUTH = (STATES - STATES.mean(0)) / STATES.std(0)


def probed(
    corpus: Path, outputs: Path, out: Path, listener: RecordingListener | None = None, **spec: Any
) -> dict[str, object]:
    out.mkdir()
    asked = ProbeSpec.model_validate({"layers": (1, 3), **spec})
    return probe(asked, {"corpus": corpus, "outputs": outputs}, out, inline(listener))


def columns(directory: Path, names: Sequence[str], corpus: Path, split: str = "train") -> list[np.ndarray]:
    keys = read_split(corpus, split).keys
    found = read_columns(directory, names, keys)
    return [found[name] for name in names]


def by_hand(states: np.ndarray, labels: np.ndarray, penalty: float, rows: np.ndarray) -> np.ndarray:
    """[rows, 2]: logits of a logistic regression of two labels, its loss written out and minimised by SciPy."""
    given = states.astype(np.float64)
    centre, scale = given.mean(0), given.std(0)
    scale = np.where(scale > 1e-12, scale, 1)
    given = (given - centre) / scale
    signs = 2.0 * labels - 1

    def loss(weights: np.ndarray) -> float:
        margins = signs * (given @ weights[1:] + weights[0])
        return float(np.logaddexp(0, -margins).sum() + penalty / 2 * np.square(weights[1:]).sum())

    found = minimize(loss, np.zeros(given.shape[1] + 1), method="BFGS", options={"gtol": 1e-7})
    decided = (rows.astype(np.float64) - centre) / scale @ found.x[1:] + found.x[0]
    return np.stack([-decided, decided], 1) / 2


def ridge(states: np.ndarray, labels: np.ndarray, penalty: float, rows: np.ndarray) -> np.ndarray:
    """[rows, 1]: values of a ridge regression, by its normal equations."""
    given, wanted = states.astype(np.float64), labels.astype(np.float64)
    centre, scale = given.mean(0), given.std(0)
    given = (given - centre) / scale
    weights = np.linalg.solve(given.T @ given + penalty * np.eye(given.shape[1]), given.T @ (wanted - wanted.mean()))
    return (((rows - centre) / scale) @ weights + wanted.mean())[:, None]


def crossed(by: Callable[..., np.ndarray], corpus: Path, states: np.ndarray, penalty: float) -> np.ndarray:
    """The logits of a classifier of the other folds for each row of train."""
    train = read_split(corpus, "train")
    folds, logits = (
        np.array([fold_of(key, 5) for key in train.keys]),
        np.full((len(train), 1 if by is ridge else 2), np.nan),
    )
    for fold in range(5):
        own = folds == fold
        assert own.any()
        logits[own] = by(states[~own], train.labels[~own], penalty, states[own])
    return logits


# --- against others' arithmetic -------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [1.0, 20.0])
def test_the_outputs_for_a_row_are_those_of_a_fit_by_hand_on_the_other_folds(
    penalty: float, tiny_corpus: Path, store: Path, tmp_path: Path
) -> None:
    facts = probed(tiny_corpus, store, tmp_path / "out", penalty=penalty)
    labels = read_split(tiny_corpus, "train").labels
    states = columns(store, ["hidden_01", "hidden_03"], tiny_corpus)
    probed_columns = columns(tmp_path / "out", ["hidden_01", "hidden_03"], tiny_corpus)
    for layer, given, found in zip(("hidden_01", "hidden_03"), states, probed_columns, strict=True):
        wanted = crossed(by_hand, tiny_corpus, given, penalty)
        np.testing.assert_allclose(found, wanted, atol=5e-3)
        assert np.ptp(wanted) > 0.5, "rows differ, or this proves nothing"
        assert np.abs(found - by_hand(given, labels, penalty, given)).max() > 0.05, "and one fit of all is another"
        accuracy = 100 * (wanted.argmax(1) == labels).mean()
        assert isinstance(facts["out_of_fold"], dict)
        assert facts["out_of_fold"][layer] == pytest.approx(accuracy, abs=1e-3)


def test_three_labels_are_fitted_together_and_the_outputs_need_no_scaling_by_their_readers() -> None:
    """The gradient of the stated loss is zero where the fit ends, in weights of standardised states."""
    labels = np.argmax(TRUTH[:, :3] + 0.5 * GENERATOR.normal(size=(60, 3)), 1)
    linear = fit(STATES, LabelledStates(np.arange(60), labels), THREE, 2.0)
    said = linear(STATES).astype(np.float64)
    shares = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    weights = linear.weights * STATES.astype(np.float64).std(0)
    slope = (shares - np.eye(3)[labels]).T @ TRUTH.astype(np.float64) + 2.0 * weights
    assert np.abs(slope).max() < 1e-2 * np.abs(2.0 * weights).max()
    assert np.abs((shares - np.eye(3)[labels]).sum(0)).max() < 1e-2


def test_a_regression_is_ridge_regression(pairs_corpus: Path, pairs_store: Path, tmp_path: Path) -> None:
    facts = probed(pairs_corpus, pairs_store, tmp_path / "out", layers=(0,), penalty=3.0)
    labels = read_split(pairs_corpus, "train").labels.astype(np.float64)
    (states,) = columns(pairs_store, ["hidden_00"], pairs_corpus)
    wanted = crossed(ridge, pairs_corpus, states, 3.0)
    (said,) = columns(tmp_path / "out", ["hidden_00"], pairs_corpus)
    assert said.shape == (len(labels), 1)
    np.testing.assert_allclose(said, wanted, atol=1e-4)
    left = 1 - np.square(labels - wanted[:, 0]).sum() / np.square(labels - labels.mean()).sum()
    assert facts["measure"] == "r2" and facts["out_of_fold"] == {"hidden_00": pytest.approx(100 * left, abs=1e-2)}


def test_a_text_that_stands_twice_with_two_labels_counts_with_both() -> None:
    """As two examples, which is what the same states twice in a table would be."""
    labels = (TRUTH[:, 0] > 0).astype(np.int64)
    places = np.concatenate([np.arange(60), [7, 7, 7, 7]])
    doubled = np.concatenate([labels, 1 - labels[[7, 7, 7, 7]]])
    two = Task(name="two", text=("text",), labels=("a", "b"))
    found = fit(STATES, LabelledStates(places, doubled), two, 1.0)(STATES)
    wanted = by_hand(STATES[places], doubled, 1.0, STATES)
    np.testing.assert_allclose(found, wanted, atol=5e-3)
    once = fit(STATES, LabelledStates(np.arange(60), labels), two, 1.0)(STATES)
    assert np.abs(found[7] - once[7]).max() > 0.05


# --- the store that is left ------------------------------------------------------------------------------


def test_the_store_has_the_rows_and_the_logits_of_the_teachers_and_passes_its_checks(
    tiny_corpus: Path, store: Path, tmp_path: Path
) -> None:
    listener = RecordingListener()
    facts = probed(tiny_corpus, store, tmp_path / "out", listener)
    left, teachers = read_store(tmp_path / "out"), read_store(store)
    assert left.layout == Layout("pooled", (1, 3), 2, 0, 2, "mean", "float32")
    assert (left.tokenisation, left.rows, facts["rows"]) == (teachers.tokenisation, teachers.rows, teachers.rows)
    assert check_store(tmp_path / "out", distinct_keys(tiny_corpus, ["train"]), lambda _: None).passed
    theirs, ours = (columns(path, ["logits"], tiny_corpus)[0] for path in (store, tmp_path / "out"))
    assert np.array_equal(theirs, ours)
    table = pq.read_table(tmp_path / "out" / "shard-00000.parquet")
    assert table.column_names == ["row_key", "logits", "hidden_01", "hidden_03"]
    assert listener.expected == [2] and listener.done == 2


def test_training_maps_the_outputs_of_classifiers_as_it_maps_states(
    tiny_corpus: Path, store: Path, tmp_path: Path
) -> None:
    probed(tiny_corpus, store, tmp_path / "out")
    keys = read_split(tiny_corpus, "train").keys
    mapped = decode(tmp_path / "out", ["logits", "hidden_03"], keys, CacheFolder(tmp_path / "cache"), lambda _: None)
    rows = np.array([5, 0, 17])
    (wanted,) = columns(tmp_path / "out", ["hidden_03"], tiny_corpus)
    assert np.array_equal(mapped.gather("hidden_03", rows), wanted[rows])
    assert layer_variances(tmp_path / "out").keys() == {"hidden_01", "hidden_03"}


def test_shards_are_divided_as_a_teachers_are_and_hold_the_same(
    tiny_corpus: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed(tiny_corpus, store, tmp_path / "whole")
    monkeypatch.setattr(stages.teaching.teach, "SHARD_ROWS", 10)
    probed(tiny_corpus, store, tmp_path / "cut")
    rows = [shard.rows for shard in read_store(tmp_path / "cut").shards]
    assert rows[:-1] == [10] * (len(rows) - 1) and sum(rows) == read_store(tmp_path / "whole").rows
    names = ["logits", "hidden_01", "hidden_03"]
    for one, other in zip(*(columns(tmp_path / name, names, tiny_corpus) for name in ("cut", "whole")), strict=True):
        assert np.array_equal(one, other)


def test_the_same_inputs_leave_the_same_bytes(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    first, again = (probed(tiny_corpus, store, tmp_path / name) for name in ("first", "again"))
    assert first == again
    for name in ("shard-00000.parquet", "store.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_requested_pooling_is_read_from_a_store_of_both(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "both").mkdir()
    both = TeachSpec(pooling="both", precision="float32")
    teach(both, {"corpus": tiny_corpus, "model": teacher}, tmp_path / "both", inline())
    probed(tiny_corpus, tmp_path / "both", tmp_path / "out", layers=(2,), pooling="cls")
    (states,) = columns(tmp_path / "both", ["cls_02"], tiny_corpus)
    (said,) = columns(tmp_path / "out", ["hidden_02"], tiny_corpus)
    np.testing.assert_allclose(said, crossed(by_hand, tiny_corpus, states, 1.0), atol=5e-3)
    with pytest.raises(ValueError, match="layer 2, pooling cls"):
        probed(tiny_corpus, store, tmp_path / "refused", layers=(2,), pooling="cls")


# --- which rows ------------------------------------------------------------------------------------------


def test_rows_outside_train_are_never_fitted_on_and_get_the_mean_logits_of_all_folds(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    spec = TeachSpec(splits=("train", "holdout"))
    teach(spec, {"corpus": tiny_corpus, "model": teacher}, tmp_path / "more", inline())
    alone = probed(tiny_corpus, store, tmp_path / "alone")
    more = probed(tiny_corpus, tmp_path / "more", tmp_path / "beside")
    assert alone["out_of_fold"] == more["out_of_fold"] and alone["train"] == more["train"]
    one, other = (columns(tmp_path / name, ["hidden_03"], tiny_corpus)[0] for name in ("alone", "beside"))
    np.testing.assert_allclose(one, other, atol=1e-2)
    train = read_split(tiny_corpus, "train")
    (known,), (asked,), (held,) = (
        columns(tmp_path / place, ["hidden_03"], tiny_corpus, split)
        for place, split in (("more", "train"), ("more", "holdout"), ("beside", "holdout"))
    )
    apart = [np.array([fold_of(key, 5) != fold for key in train.keys]) for fold in range(5)]
    wanted = np.mean([by_hand(known[others], train.labels[others], 1.0, asked) for others in apart], 0)
    strange = np.array([key not in train.keys for key in read_split(tiny_corpus, "holdout").keys])
    assert strange.any()
    np.testing.assert_allclose(held[strange], wanted[strange], atol=5e-3)


def test_a_store_that_lacks_a_row_of_train_is_refused_naming_it(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    layout = replace(read_store(store).layout, layers=(1,))
    keys = distinct_keys(tiny_corpus, ["train"])
    assert read_split(tiny_corpus, "train").keys.count(keys[0]) == 2
    found = read_columns(store, ["logits", "hidden_01"], keys[1:])
    (tmp_path / "less").mkdir()
    file = write_shard(tmp_path / "less", 0, layout, keys[1:], found["logits"], {"hidden_01": found["hidden_01"]})
    write_store(tmp_path / "less", layout, "rule", [file])
    with pytest.raises(ValueError, match=f"split train: lacks 2 rows, the first is {keys[0].hex()}; run the teach"):
        probed(tiny_corpus, tmp_path / "less", tmp_path / "out", layers=(1,))


def test_more_folds_are_other_folds(tiny_corpus: Path, store: Path, tmp_path: Path) -> None:
    few, many = (probed(tiny_corpus, store, tmp_path / str(folds), folds=folds) for folds in (2, 7))
    assert (few["folds"], many["folds"]) == (2, 7)
    two, seven = (columns(tmp_path / name, ["hidden_03"], tiny_corpus)[0] for name in ("2", "7"))
    assert not np.allclose(two, seven, atol=1e-2)


# --- what cannot be fitted --------------------------------------------------------------------------------


def test_a_label_that_no_row_has_gets_a_finite_logit_that_is_never_the_largest() -> None:
    labels = 2 * (TRUTH[:, 0] > 0).astype(np.int64)
    said = fit(STATES, LabelledStates(np.arange(60), labels), THREE, 1.0)(STATES)
    assert np.isfinite(said).all() and np.abs(said).max() < 100
    shares = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    np.testing.assert_allclose(shares[:, 1], 1 / 64, rtol=1e-4)  # 1/63 of the others
    assert (said.argmax(1) == labels).mean() > 0.9


def test_where_all_rows_have_one_label_it_is_predicted_for_each() -> None:
    examples = LabelledStates(np.arange(60), np.ones(60, np.int64))
    said = fit(STATES, examples, THREE, 1.0)(STATES)
    assert np.isfinite(said).all() and (said.argmax(1) == 1).all()
    assert examples.score(said, THREE) == 100.0


def test_a_layer_in_which_all_rows_are_alike_gives_the_frequencies_of_the_labels() -> None:
    """0.1 in float16 has a mean that rounding puts beside it: that must not become a signal."""
    labels = np.array([0] * 30 + [1] * 20 + [2] * 10)
    alike = np.full((60, 8), 0.1, np.float16)
    said = fit(alike, LabelledStates(np.arange(60), labels), THREE, 1.0)(alike)
    shares = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, np.tile([1 / 2, 1 / 3, 1 / 6], (60, 1)), atol=1e-3)


def test_a_regression_of_one_value_is_that_value() -> None:
    examples = LabelledStates(np.arange(60), np.full(60, 2.5, np.float32))
    said = fit(STATES, examples, NUMBER, 1.0)(STATES)
    np.testing.assert_allclose(said, 2.5, atol=1e-6)


def test_a_store_of_positions_is_refused(tiny_corpus: Path, teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    teach(TeachSpec(part="tokens"), {"corpus": tiny_corpus, "model": teacher}, tmp_path / "tokens", inline())
    with pytest.raises(ValueError, match=r"holds tokens; classifiers are fitted on pooled states$"):
        probed(tiny_corpus, tmp_path / "tokens", tmp_path / "out")
