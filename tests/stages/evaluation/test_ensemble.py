"""The mean of several models' logits, scored as the logits of a model are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import write_tiny_model
from tiny_tasks import PAIRS, TINY, write_teacher
from torch.nn.modules.module import register_module_forward_pre_hook
from training_setups import RecordingListener, inline, write_corpus

from stages.corpus.reader import read_split
from stages.evaluation.ensemble import ensemble
from stages.evaluation.evaluate import evaluate
from stages.models.loading import build
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec
from stages.specs.student import Pretrained
from stages.specs.tasks import Task


def evaluated_members(home: Path, encoder: Path, corpus: Path, task: Task, seeds: range) -> list[Path]:
    """What ``evaluate`` leaves of models with other random heads."""
    found = []
    for seed in seeds:
        torch.manual_seed(seed)
        build(Pretrained(), encoder, task).save_pretrained(home / f"model-{seed}")
        (home / f"evaluated-{seed}").mkdir()
        evaluate(
            EvaluateSpec(), {"corpus": corpus, "model": home / f"model-{seed}"}, home / f"evaluated-{seed}", inline()
        )
        found.append(home / f"evaluated-{seed}")
    return found


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, encoder: Path, tiny_corpus: Path) -> list[Path]:
    return evaluated_members(tmp_path_factory.mktemp("members"), encoder, tiny_corpus, TINY, range(3))


@pytest.fixture(scope="module")
def pairs_evaluated(tmp_path_factory: pytest.TempPathFactory, encoder: Path, pairs_corpus: Path) -> list[Path]:
    return evaluated_members(tmp_path_factory.mktemp("pairs-members"), encoder, pairs_corpus, PAIRS, range(2))


def together(
    corpus: Path,
    those: list[Path],
    out: Path,
    shares: tuple[float, ...] | None = None,
    listener: RecordingListener | None = None,
) -> dict[str, object]:
    out.mkdir()
    inputs = {"corpus": corpus, **{f"members/{number}": member for number, member in enumerate(those)}}
    return ensemble(EnsembleSpec(shares=shares), inputs, out, inline(listener))


def predictions(directory: Path, split: str) -> pa.Table:
    return pq.read_table(directory / "predictions" / f"{split}.parquet")


def logits_of(directory: Path, split: str) -> np.ndarray:
    return np.array(predictions(directory, split)["logits"].to_pylist(), np.float32)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_an_ensemble_of_equal_members_equals_the_member_bit_for_bit(
    count: int, tiny_corpus: Path, evaluated: list[Path], tmp_path: Path
) -> None:
    facts = together(tiny_corpus, [evaluated[0]] * count, tmp_path / "out")
    for split in ("validation", "test"):
        assert predictions(tmp_path / "out", split).equals(predictions(evaluated[0], split))
    assert facts["scores"] == json.loads((evaluated[0] / "metrics.json").read_text("utf-8"))["scores"]


def test_unequal_shares_weigh_the_logits_and_the_scores_are_those_of_the_mean(
    tiny_corpus: Path, evaluated: list[Path], tmp_path: Path
) -> None:
    shares = (0.5, 0.2, 0.3)
    facts = together(tiny_corpus, evaluated, tmp_path / "out", shares)
    each = [logits_of(member, "validation") for member in evaluated]
    wanted = 0.5 * each[0] + 0.2 * each[1] + 0.3 * each[2]
    np.testing.assert_allclose(logits_of(tmp_path / "out", "validation"), wanted, rtol=1e-6, atol=1e-7)
    table, labels = predictions(tmp_path / "out", "validation"), read_split(tiny_corpus, "validation").labels
    assert table["prediction"].to_pylist() == wanted.argmax(1).tolist()
    assert table["label"].to_pylist() == labels.tolist()
    accuracy = 100 * (wanted.argmax(1) == labels).mean()
    assert facts["scores"] == {"validation": {"accuracy": pytest.approx(accuracy)}}
    assert not np.allclose(wanted, np.mean(each, 0)), "the shares matter, or this proves nothing"


def test_members_weigh_the_same_unless_shares_are_given(
    tiny_corpus: Path, evaluated: list[Path], tmp_path: Path
) -> None:
    together(tiny_corpus, evaluated, tmp_path / "out")
    wanted = np.mean([logits_of(member, "test") for member in evaluated], 0)
    np.testing.assert_allclose(logits_of(tmp_path / "out", "test"), wanted, rtol=1e-6, atol=1e-7)


def test_a_regression_is_the_mean_value_and_scored_by_correlation(
    pairs_corpus: Path, pairs_evaluated: list[Path], tmp_path: Path
) -> None:
    facts = together(pairs_corpus, pairs_evaluated, tmp_path / "out", (0.25, 0.75))
    one, other = (logits_of(member, "validation")[:, 0] for member in pairs_evaluated)
    table = predictions(tmp_path / "out", "validation")
    np.testing.assert_allclose(table["prediction"].to_pylist(), 0.25 * one + 0.75 * other, rtol=1e-6)
    labels = read_split(pairs_corpus, "validation").labels
    wanted = 100 * np.corrcoef(0.25 * one + 0.75 * other, labels)[0, 1]
    assert isinstance(facts["scores"], dict)
    assert facts["scores"]["validation"]["pearson"] == pytest.approx(wanted, abs=1e-3)
    assert table.schema.field("prediction").type == pa.float32()


def test_size_and_latency_are_the_sums_of_the_members(tiny_corpus: Path, evaluated: list[Path], tmp_path: Path) -> None:
    listener = RecordingListener()
    facts = together(tiny_corpus, evaluated, tmp_path / "out", listener=listener)
    costs = [json.loads((member / "metrics.json").read_text("utf-8")) for member in evaluated]
    assert facts["parameters"] == sum(cost["parameters"] for cost in costs)
    assert facts["latency_ms"] == pytest.approx(sum(cost["latency_ms"] for cost in costs), abs=1e-3)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    assert {"rows": 35, **metrics} == facts and metrics.keys() == costs[0].keys()
    assert listener.expected == [35] and listener.done == 35


def test_no_model_runs(tiny_corpus: Path, evaluated: list[Path], tmp_path: Path) -> None:
    ran: list[str] = []
    handle = register_module_forward_pre_hook(lambda module, _: ran.append(type(module).__name__))
    try:
        together(tiny_corpus, evaluated, tmp_path / "out")
        assert ran == []
        torch.nn.Linear(1, 1)(torch.zeros(1))
        assert ran == ["Linear"], "the count works"
    finally:
        handle.remove()


def test_members_that_read_other_tokens_are_joined_by_their_rows(
    tiny_corpus: Path, evaluated: list[Path], tmp_path: Path
) -> None:
    """The same rows under another tokenizer, and in another order."""
    from transformers import BertTokenizerFast

    other = write_tiny_model(tmp_path / "other", layers=1, width=16)
    words = sorted({word for texts in read_split(tiny_corpus, "train").texts() for word in texts[0].split()})
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(other)
    folder = tmp_path / "tiny"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        rows = read_split(tiny_corpus, split)
        table = pa.table({"sentence": [texts[0] for texts in rows.texts()], "label": rows.labels})
        pq.write_table(table.drop_columns("label") if split == "test" else table, folder / f"{split}.parquet")
    corpus = write_corpus(TINY, folder, other, tmp_path / "corpus")
    tokens = [read_split(path, "test").tokens.tolist() for path in (corpus, tiny_corpus)]
    assert tokens[0] != tokens[1]
    model = write_teacher(other, TINY, tmp_path / "model")
    (tmp_path / "evaluated").mkdir()
    evaluate(EvaluateSpec(), {"corpus": corpus, "model": model}, tmp_path / "evaluated", inline())
    turned = tmp_path / "evaluated" / "predictions" / "test.parquet"
    pq.write_table(pq.read_table(turned).take(list(range(9, -1, -1))), turned)
    together(tiny_corpus, [evaluated[0], tmp_path / "evaluated"], tmp_path / "out")
    wanted = (logits_of(evaluated[0], "test") + logits_of(tmp_path / "evaluated", "test")[::-1]) / 2
    np.testing.assert_allclose(logits_of(tmp_path / "out", "test"), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("rows", "what"), [(slice(0, 9), "lacks"), ([*range(10), 3], "has besides")])
def test_a_member_of_other_rows_is_refused_naming_one(
    rows: object, what: str, tiny_corpus: Path, evaluated: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(evaluated[1], tmp_path / "other")
    path = tmp_path / "other" / "predictions" / "test.parquet"
    pq.write_table(pq.read_table(path).take(list(range(10))[rows] if isinstance(rows, slice) else rows), path)
    split = read_split(tiny_corpus, "test")
    row = 9 if what == "lacks" else 3
    with pytest.raises(
        ValueError, match=rf"test\.parquet: \d+ rows for 10 .* it {what} row {row} \({split.keys[row].hex()}\)"
    ):
        together(tiny_corpus, [evaluated[0], tmp_path / "other"], tmp_path / "out")


def test_shares_are_one_a_member_and_together_one(tiny_corpus: Path, evaluated: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shares has 2 for 3 members; give one each$"):
        together(tiny_corpus, evaluated, tmp_path / "few", (0.5, 0.5))
    with pytest.raises(ValueError, match=r"shares .* sum to 0.9; let them sum to 1$"):
        together(tiny_corpus, evaluated, tmp_path / "less", (0.3, 0.3, 0.3))
    with pytest.raises(ValueError, match="no members"):
        together(tiny_corpus, [], tmp_path / "none")
