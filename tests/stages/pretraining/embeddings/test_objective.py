"""Trainings on stored sentence embeddings: the loss against NumPy, interrupted and resumed, and by two workers."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from embedding_trainings import embedding_setup, embedding_training
from state_trainings import small_encoder, states_of
from training_setups import FORKSERVER, Interrupted, LocalWorker, equal_weights, max_difference

from stages.pretraining.progress import PretrainingProgress
from stages.specs.layers import Pick
from stages.specs.pretraining import PretrainSpec, SentenceEmbedding

KINDS = {
    "cosine": SentenceEmbedding(loss="cosine", projection="kept"),
    "squared": SentenceEmbedding(loss="squared", projection="dropped", normalize=False),
    "similarities": SentenceEmbedding(loss="similarities"),
}

TOLERANCE = 5e-5
"""The greatest difference of a weight between one worker and two: AdamW scales rounding errors of gradients that are
nearly 0 up to parts of a step."""


def teacher_of(width: int = 24) -> torch.nn.Module:
    return small_encoder(seed=7, layers=3, width=width)


def results(progress: PretrainingProgress) -> list[tuple[int, int, float, float]]:
    """(epoch, steps, loss, held-out loss) of each epoch."""
    return [(epoch.epoch, epoch.steps, epoch.loss, epoch.held_out.loss) for epoch in progress.history]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("projection", ["none", "kept", "dropped"])
def test_the_loss_is_that_of_pooled_last_states_mapped_by_the_projection(
    pooling: str, projection: str, tmp_path: Path
) -> None:
    embedding = SentenceEmbedding(loss="cosine", projection=projection, pooling=pooling)
    teacher = teacher_of(16 if projection == "none" else 24)
    setup = embedding_setup(tmp_path / "c.pt", embedding, teacher)
    training = embedding_training(small_encoder(dropout=0.0), setup)
    found = training.held_out_score().loss
    own = states_of(small_encoder(dropout=0.0), setup.held_out)[2, pooling]
    if projection != "none":
        linear = training.objective.student.projection
        own = own @ linear.weight.detach().double().numpy().T + linear.bias.detach().double().numpy()
    other = states_of(teacher, setup.held_out)[3, pooling]
    cosines = (own * other).sum(1) / np.linalg.norm(own, axis=1) / np.linalg.norm(other, axis=1)
    assert found == pytest.approx(1 - cosines.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_and_what_no_embedding_depends_on_stays(kind: str, tmp_path: Path) -> None:
    model, before = small_encoder(), small_encoder().state_dict()
    training = embedding_training(model, embedding_setup(tmp_path / "c.pt", KINDS[kind], teacher_of(), epochs=6))
    training.run()
    first, *_, last = (epoch.loss for epoch in training.progress.history)
    assert last < 0.9 * first
    # So few random texts do not tell the similarities of others.
    assert kind == "similarities" or training.progress.score.loss < training.progress.before.loss
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert same == {"pooler.dense.weight", "pooler.dense.bias"}


# --- interrupted and resumed ------------------------------------------------------------------------


def cut_at(number: int) -> Callable[[int], None]:
    def check(reached: int) -> None:
        if reached == number:
            raise Interrupted

    return check


@pytest.mark.parametrize("kind", ["cosine", "similarities"])
def test_a_training_that_was_interrupted_ends_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole = embedding_training(small_encoder(), embedding_setup(tmp_path / "u.pt", KINDS[kind], teacher_of(), 1e9))
    whole.run()
    with pytest.raises(Interrupted):
        cut = embedding_setup(tmp_path / "cut.pt", KINDS[kind], teacher_of())
        embedding_training(small_encoder(), cut, LocalWorker(cut_at(8))).run()
    last = LocalWorker()
    resumed = embedding_training(
        small_encoder(seed=5), embedding_setup(tmp_path / "cut.pt", KINDS[kind], teacher_of()), last
    )
    resumed.run()
    assert last.notes[0].startswith("goes on from epoch 2")
    assert set(resumed.objective.parts) == {"model", *(["projection"] if kind == "cosine" else [])}
    for name, part in resumed.objective.parts.items():
        assert equal_weights(part.state_dict(), whole.objective.parts[name].state_dict())
    assert results(resumed.progress) == results(whole.progress)


# --- two workers ------------------------------------------------------------------------------------


def fit(kind: str, checkpoint: Path, worker: LocalWorker) -> tuple[dict[str, torch.Tensor], list[tuple[object, ...]]]:
    """A training with an odd number of rows in the last batch of each epoch: its weights and its history."""
    setup = embedding_setup(checkpoint, KINDS[kind], teacher_of(), epochs=2)
    training = embedding_training(small_encoder(dropout=0.0), setup, worker)
    training.run()
    return training.objective.student.state_dict(), results(training.progress)


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=2)
    for kind in KINDS:
        ended = fit(kind, Path(folder) / f"{kind}-{rank}.pt", LocalWorker(rank=rank, world_size=2))
        torch.save(ended, f"{folder}/{kind}-ended-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_workers_end_with_the_weights_of_one(tmp_path: Path) -> None:
    other = FORKSERVER.Process(target=work, args=(1, str(tmp_path)))
    other.start()
    work(0, str(tmp_path))
    other.join()
    assert other.exitcode == 0
    for kind in KINDS:
        (weights, history), (others, _) = (torch.load(tmp_path / f"{kind}-ended-{rank}.pt") for rank in (0, 1))
        assert equal_weights(weights, others)
        single, own = fit(kind, tmp_path / f"{kind}.pt", LocalWorker())
        assert max_difference(weights, single) < TOLERANCE
        for one, two in zip(history, own, strict=True):
            assert one == pytest.approx(two, rel=1e-4)


# --- the spec ---------------------------------------------------------------------------------------


def test_a_spec_that_mixes_embeddings_with_another_objective_is_refused() -> None:
    for fields, problem in (
        ({"states": Pick(pairs=((0, 0),))}, "either states or embeddings"),
        ({"masking": {"share": 0.3}}, "embedding: no token is masked beside it"),
        ({"distillation": {}}, "embedding: no token is masked beside it"),
    ):
        with pytest.raises(ValueError, match=problem):
            PretrainSpec(embedding=SentenceEmbedding(), **fields)
