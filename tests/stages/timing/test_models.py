"""What is measured of a model: figures of each kind of its work, on the model that the stages will run."""

from pathlib import Path

import pytest
from tiny import write_tiny_model, write_tiny_task

from cluster.inline import Inline
from cluster.resources import Resources
from stages.bank.sources import text_files
from stages.corpus.corpus import corpus
from stages.corpus.reader import read_meta
from stages.models.bilstm import BILSTM
from stages.models.forward import widths
from stages.specs.bank import BankSpec
from stages.specs.corpus import CorpusSpec, Files
from stages.specs.retrieval import ModelEncoder
from stages.specs.student import Bilstm, Cut, Fresh, Pretrained, Train
from stages.specs.tasks import Task
from stages.timing.job import BankTiming, ModelTiming, TokenizerTiming
from stages.timing.models import opened
from stages.timing.start import open_bank_timing, open_tokenizer_timing, time_model

TASK = Task(name="tiny", text=("sentence",), labels=("bad", "good"))


class Quiet:
    def expect(self, total: float, unit: str) -> None: ...
    def advance(self, amount: float) -> None: ...
    def restore(self, amount: float) -> None: ...
    def note(self, text: str) -> None: ...
    def log(self, line: str) -> None: ...


ON = Inline().on(Resources(), Quiet())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of the task ``tiny``."""
    folder = tmp_path_factory.mktemp("rows")
    data = write_tiny_task(folder) / "tiny"
    inputs = {"tokenizer": model, **{f"data/{split}": data / f"{split}.parquet" for split in ("train", "validation")}}
    corpus(CorpusSpec(task=TASK, source=Files(), max_length=16), inputs, folder / "corpus", ON)
    return folder / "corpus"


def test_each_kind_of_work_of_a_model_is_measured(model: Path, rows: Path, tmp_path: Path) -> None:
    trainings = (Train(batch_size=8), Train(batch_size=16, micro_batch=4))
    job = ModelTiming(model, (Cut(layers=(0, 2)),), rows, trainings, ("float32",), tmp_path, 0.05)
    found = ON.train(time_model, job)
    assert set(found.forward) == {"load", "forward_row", "single", "store_float32_row", "keep", "save"}
    assert [set(figures) for figures in found.steps] == [{"first", "train_row", "rows"}] * 2
    assert min(found.forward.values()) > 0
    assert all(figures["train_row"] > 0 and figures["rows"] >= 16 for figures in found.steps)
    assert list(tmp_path.iterdir()) == [], "the model that was saved is removed"


def test_a_model_is_measured_in_the_shape_that_the_stages_train(model: Path, rows: Path) -> None:
    task = read_meta(rows).task
    layers = {
        (): 4,
        (Pretrained(),): 4,
        (Cut(layers=(0, 1, 3)),): 3,
        (Cut(layers=(0, 1, 3)), Cut(layers=(1,))): 1,
        (Fresh(changes=(("num_hidden_layers", 2), ("hidden_size", 16))),): 2,
    }
    for starts, depth in layers.items():
        found = opened(model, starts, task)
        assert found.config.num_hidden_layers == depth
        assert set(widths(found)) == {16 if depth == 2 else 32}


def test_a_bilstm_is_measured_as_a_student_and_as_a_teacher(model: Path, rows: Path, tmp_path: Path) -> None:
    job = ModelTiming(
        model, (Bilstm(hidden=4, fc=4),), rows, (Train(batch_size=8),), ("float32", "bfloat16"), tmp_path, 0.05
    )
    found = ON.train(time_model, job)
    assert {"store_float32_row", "store_bfloat16_row", "save"} <= set(found.forward)
    assert found.steps[0]["train_row"] > 0
    opened_model = opened(model, job.starts, read_meta(rows).task)
    assert (opened_model.config.model_type, widths(opened_model)) == (BILSTM, (4,))


def test_texts_are_measured(model: Path, rows: Path, tmp_path: Path) -> None:
    ((_, figures),) = ON.map(open_tokenizer_timing, TokenizerTiming(rows, 0.05), [0])
    assert figures["token_row"] > 0
    (tmp_path / "bank.txt").write_text("one sentence of the bank\n" * 300, "utf-8")
    files = tuple((f"files/{number}", path) for number, path in enumerate(text_files([tmp_path / "bank.txt"])))
    job = BankTiming(BankSpec(), files, None, ModelEncoder(max_length=16), model, 0.05)
    ((_, found),) = ON.map(open_bank_timing, job, [0])
    assert set(found) == {"clean_row", "load", "embed_row", "compare"}
    assert min(found.values()) > 0
