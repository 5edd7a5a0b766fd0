"""How many rows of train are trained on, held out and cut off, as the stage ``corpus`` will choose them."""

import pyarrow as pa
import pytest

from pipeline.graph.nodes import Quantity, SplitSizes
from pipeline.graph.split_sizes import recorded_sizes, share_text, split_sizes
from pipeline.recipe import Data
from stages.corpus.corpus import choose
from stages.corpus.row_key import row_key
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.tasks import BUILT_IN

TREC, RTE = BUILT_IN["trec"], BUILT_IN["rte"]


def rows(split: str, count: int) -> pa.Table:
    texts = [f"{split} text {number}" for number in range(count)]
    keys = pa.array([row_key((text,)) for text in texts], pa.binary(16))
    return pa.table({"row_key": keys, "label": [0] * count, "sentence": texts})


def test_a_task_without_a_dev_split_trains_on_four_fifths_of_train() -> None:
    sizes = split_sizes({"train": 5452, "test": 500}, TREC, Data())
    assert sizes == SplitSizes(4416, 491, 545, 545 + 500, 5452, 0, cut=True)
    assert share_text("trec", sizes) == (
        "trec: 4,416 of 5,452 rows of train are trained on; 491 held out to select the epoch, 545 cut off as validation"
    )
    assert sizes.quantity(sizes.trained) == Quantity.about(4416), "rows of equal texts may change the size of a cut"


def test_without_a_holdout_all_rows_are_trained_on_and_their_number_is_exact() -> None:
    sizes = split_sizes({"train": 90, "validation": 30}, RTE, Data(holdout=0.0))
    assert share_text("rte", sizes) == "rte: 90 of 90 rows of train are trained on"
    assert sizes.quantity(sizes.trained) == Quantity.exact(90)


@pytest.mark.parametrize(
    ("train_rows", "eval_rows"), [(None, None), (40, None), (40, 5), (None, 5), (200, 200), (95, None)]
)
@pytest.mark.parametrize("least", [0, 12, 300])
def test_the_sizes_are_those_that_the_stage_chooses(train_rows: int | None, eval_rows: int | None, least: int) -> None:
    tables = {"train": rows("train", 100), "test": rows("test", 20)}
    data = Data(train_rows=train_rows, eval_rows=eval_rows, holdout_min_rows=least)
    spec = CorpusSpec(
        task=TREC,
        source=Files(),
        train_rows=train_rows,
        eval_rows=eval_rows,
        holdout_min_rows=least,
    )
    chosen = {name: split.rows.num_rows for name, split in choose(spec, tables).items()}
    given = {name: table.num_rows for name, table in tables.items()}
    sizes = split_sizes(given, TREC, data)
    assert (sizes.trained, sizes.held_out) == (chosen["train"], chosen["holdout"])
    assert sizes.evaluated == chosen["validation"] + chosen["test"]
    assert sizes.rows == sum(chosen.values())
    assert sizes.trained + sizes.held_out + sizes.cut_off + sizes.not_sampled == sizes.given == 100


def test_a_small_train_has_300_rows_held_out_or_a_quarter() -> None:
    sizes = split_sizes({"train": 1300, "validation": 30}, RTE, Data())
    assert (sizes.trained, sizes.held_out) == (1000, 300)
    assert (
        share_text("rte", sizes) == "rte: 1,000 of 1,300 rows of train are trained on; 300 held out to select the epoch"
    )
    quarter = split_sizes({"train": 240, "validation": 30}, RTE, Data())
    assert (quarter.trained, quarter.held_out) == (180, 60)


def test_the_record_of_a_corpus_tells_its_sizes() -> None:
    record = {"train": 73, "holdout": 8, "validation": 9, "test": 30}
    spec = CorpusSpec(task=TREC, source=Files())
    assert recorded_sizes(record, spec) == SplitSizes(73, 8, 9, 39, 90)
    sampled = recorded_sizes(record, spec.model_copy(update={"train_rows": 81}))
    assert sampled.given is None
    assert share_text("trec", sampled).startswith("trec: 73 rows of train are trained on; 8 held out")
