"""BiLSTM students in the stage ``distil``: they resume bit for bit, work in two processes as in one, and read the pairs
of a corpus as ``stillhouse.load_model`` reads those of a user."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tasks import PAIRS
from training_setups import (
    CLASSES,
    VANILLA,
    WORDS,
    Interrupted,
    LocalWorker,
    RecordingListener,
    assert_two_workers_train_as_one_does,
    inline,
    setup_of,
    signal_for,
    spec_of,
)
from transformers import AutoTokenizer

import stillhouse
from cluster.inline import InlineWorker
from stages.corpus.reader import read_split
from stages.corpus.rowset import read_rowset
from stages.models.bilstm.model import BilstmConfig, BilstmForSequenceClassification
from stages.models.predict import predict
from stages.specs.axes.targets import TeacherTargets
from stages.specs.method import Method
from stages.specs.student import Bilstm, DistilSpec, Train
from stages.training.checkpoint import Progress
from stages.training.distil import distil
from stages.training.job import StudentJob
from stages.training.loop import fit
from stages.training.worker import train

TRAIN = Train(epochs=2, batch_size=16, learning_rate=5e-3, seed=1)
DEEP = DistilSpec(
    start=Bilstm(hidden=6, layers=2, fc=8, width=8, dropout=0.2), method=Method(targets=TeacherTargets()), train=TRAIN
)
WEIGHTS = "model/model.bilstm.safetensors"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, teacher: Path, tiny_corpus: Path) -> Path:
    """The teacher with its tokenizer, as its training leaves it."""
    directory = tmp_path_factory.mktemp("start") / "model"
    shutil.copytree(teacher, directory)
    shutil.copytree(tiny_corpus / "tokenizer", directory, dirs_exist_ok=True)
    return directory


def test_an_interrupted_bilstm_ends_with_the_bytes_of_an_uninterrupted_one(
    start: Path, tiny_corpus: Path, store: Path, tmp_path: Path
) -> None:
    """With dropout on its inputs, between its layers and before the classifier."""

    def cut(done: float) -> None:
        if done > 75:
            raise Interrupted

    inputs = {"corpus": tiny_corpus, "start": start, "outputs": store}
    (tmp_path / "whole").mkdir()
    facts = distil(DEEP, inputs, tmp_path / "whole", inline())
    job = StudentJob(DEEP, inputs, tmp_path / "cut", checkpoint_seconds=0.0)
    with pytest.raises(Interrupted):
        train(job, InlineWorker(1, RecordingListener(cut)))
    assert not (tmp_path / "cut" / "model").exists()
    again = train(job, InlineWorker(1, RecordingListener()))
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()
    assert again["scores"] == facts["scores"]


def test_a_bilstm_of_pairs_gives_a_user_the_logits_that_the_corpus_gives(pairs_corpus: Path, tmp_path: Path) -> None:
    """A regression. The tokens of the corpus have types, and without them the separators tell the same."""
    spec = DistilSpec(start=Bilstm(hidden=6, fc=8, embeddings="random", width=8), train=TRAIN)
    encoder = tmp_path / "encoder"
    shutil.copytree(pairs_corpus / "tokenizer", encoder)
    (encoder / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    out = tmp_path / "out"
    out.mkdir()
    facts = distil(spec, {"corpus": pairs_corpus, "start": encoder}, out, inline())
    model, tokenizer = stillhouse.load_model(out / "model"), AutoTokenizer.from_pretrained(out / "model")
    assert model.config.pair and facts["parameters"] == sum(one.numel() for one in model.parameters())
    expected = predict(model, read_rowset(pairs_corpus, "validation"), PAIRS.outputs, "cpu")
    for types in (True, False):
        with torch.inference_mode():
            rows = [
                model(
                    **tokenizer(*text, truncation=True, max_length=16, return_tensors="pt", return_token_type_ids=types)
                ).logits
                for text in read_split(pairs_corpus, "validation").texts()
            ]
        np.testing.assert_allclose(torch.cat(rows).numpy(), expected, atol=1e-5)


def trained(checkpoint: Path, worker: LocalWorker) -> tuple[BilstmForSequenceClassification, Progress]:
    torch.manual_seed(0)
    config = BilstmConfig(
        vocab_size=WORDS, embedding_size=8, hidden_size=6, fc_size=8, num_labels=CLASSES.outputs, dropout=0.0
    )
    model = BilstmForSequenceClassification(config)
    setup = setup_of(spec_of(VANILLA, batch_size=5, epochs=2), CLASSES, checkpoint, signal_for(VANILLA, CLASSES))
    return model, fit(model, setup, worker)


def test_two_workers_train_a_bilstm_as_one_does(tmp_path: Path) -> None:
    assert_two_workers_train_as_one_does(trained, tmp_path)
