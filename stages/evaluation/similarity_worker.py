"""A worker of the stage ``similarity``."""

import statistics
import time

import numpy as np
import numpy.typing as npt
import torch

from cluster.resources import Worker
from stages.corpus.reader import read_meta, read_split
from stages.device_turn import TURN
from stages.evaluation.job import SimilarityJob, SplitScores
from stages.evaluation.predictions import Rows, predictions_path, scored, write_predictions
from stages.evaluation.worker import LATENCY_ROWS
from stages.models.predict import finite_or_raise
from stages.models.sentences.encoder import cosines, open_sentence_encoder


class SimilarityWorker:
    """A loaded sentence encoder and the corpus of pairs that it is scored on."""

    def __init__(self, job: SimilarityJob, worker: Worker) -> None:
        meta = read_meta(job.corpus)
        self.job, self.worker, self.task = job, worker, meta.task
        self.encoder = open_sentence_encoder(
            job.model, job.spec.pooling, meta.max_length, worker.device, worker.threads
        )

    def score_split(self, split: str) -> SplitScores:
        """Score one split and write the cosines of its pairs. Each distinct text is embedded once."""
        rows = read_split(self.job.corpus, split)
        pairs = rows.texts()
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        place = {text: number for number, text in enumerate(texts)}
        vectors = self.encoder.encode([(text,) for text in texts])
        first, second = (np.array([place[pair[side]] for pair in pairs], np.int64) for side in (0, 1))
        values = cosines(vectors[first], vectors[second])[:, None]
        finite_or_raise(vectors[first] + vectors[second], rows.keys, f"the embeddings on {split}")
        about = Rows(rows.index, rows.keys, rows.labels, rows.labelled)
        write_predictions(predictions_path(self.job.out, split), self.task, about, values)
        self.worker.advance(len(rows))
        found = scored(self.task, values, rows.labels, rows.labelled)
        return SplitScores(len(rows), found, self.encoder.parameters, self._latency(texts))

    def _latency(self, texts: list[str]) -> float:
        """Median milliseconds of a forward pass over one text, over the first texts of a split."""
        encoded, times = self.encoder.encoded(texts[:LATENCY_ROWS]), []
        with torch.inference_mode():
            for row in range(len(encoded)):
                arrays: dict[str, npt.NDArray[np.int64]] = encoded.collate(np.array([row]))
                inputs = {name: torch.from_numpy(one).to(self.worker.device) for name, one in arrays.items()}
                with TURN:
                    began = time.perf_counter()
                    self.encoder.vectors(inputs).cpu()
                    times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times)
