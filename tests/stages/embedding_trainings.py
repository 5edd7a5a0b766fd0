"""Small trainings on stored sentence embeddings for tests: rows of random tokens, and BERTs with some thousand weights
and no head."""

from pathlib import Path

from state_trainings import stored_setup
from training_setups import LocalWorker
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
    return stored_setup(checkpoint, settings, teacher, own.pooling, seconds)


def embedding_training(model: BertModel, setup: StateSetup, worker: LocalWorker | None = None) -> Pretraining:
    """A training that has not begun."""
    own = worker or LocalWorker()
    return Pretraining(EmbeddingObjective(model, setup, own), setup, own)
