"""Small trainings on stored sentence embeddings for tests: rows of random tokens, and BERTs with some thousand weights
and no head."""

from itertools import count
from pathlib import Path

from state_trainings import stored
from training_setups import CLASSES, LocalWorker, random_rows
from transformers import BertModel

from stages.pretraining.embeddings.objective import EmbeddingObjective
from stages.pretraining.loop import Pretraining
from stages.pretraining.state_objective import StateSetup
from stages.specs.pretraining import PretrainSpec, SentenceEmbedding


def embedding_setup(
    checkpoint: Path, embedding: SentenceEmbedding, teacher: BertModel, seconds: float = 0.5, **spec: object
) -> StateSetup:
    """A training on 26 rows in batches of 5, with 12 held out, and a clock that advances by a second whenever it is
    read. The teacher's last layer is followed."""
    own = embedding.model_copy(update={"layer": teacher.config.num_hidden_layers})
    settings = PretrainSpec(**{"batch_size": 5, "epochs": 3, "learning_rate": 3e-3, "embedding": own, **spec})
    texts, held_out = random_rows(CLASSES, 26, seed=1), random_rows(CLASSES, 12, seed=2)
    clock = count()
    return StateSetup(
        settings,
        texts,
        held_out,
        checkpoint,
        seconds,
        lambda: float(next(clock)),
        stored=stored(teacher, texts, own.pooling),
        stored_held_out=stored(teacher, held_out, own.pooling),
        teacher_widths=dict.fromkeys(range(13), teacher.config.hidden_size),
    )


def embedding_training(model: BertModel, setup: StateSetup, worker: LocalWorker | None = None) -> Pretraining:
    """A training that has not begun."""
    own = worker or LocalWorker()
    return Pretraining(EmbeddingObjective(model, setup, own), setup, own)
