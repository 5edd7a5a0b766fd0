"""A worker of the stage ``evaluate``."""

import statistics
import time

import numpy as np
import torch
from torch import nn

from cluster.resources import Worker
from stages.corpus.reader import read_meta
from stages.corpus.rowset import Rowset, read_rowset
from stages.device_turn import TURN
from stages.evaluation.job import EvaluationJob, SplitScores
from stages.evaluation.predictions import predictions_path
from stages.evaluation.scoring import keep_predictions, scores
from stages.models.by_task import load
from stages.models.forward import count_parameters, forward
from stages.models.predict import finite_or_raise, predict

LATENCY_ROWS = 24
"""Rows over which the latency is measured, the first of a split."""


class EvaluationWorker:
    """A loaded model and the corpus that it is scored on."""

    def __init__(self, job: EvaluationJob, worker: Worker) -> None:
        torch.set_num_threads(worker.threads)
        self.job = job
        self.worker = worker
        self.task = read_meta(job.corpus).task
        model: nn.Module = load(job.model)
        self.model = model.to(worker.device).eval()

    def score_split(self, split: str) -> SplitScores:
        """Score one split and write its predictions."""
        rows = read_rowset(self.job.corpus, split)
        logits = predict(self.model, rows, self.task.outputs, self.worker.device)
        if self.job.spec.label_order is not None:
            logits = logits[:, list(self.job.spec.label_order)]
        finite_or_raise(logits, rows.label_keys, f"the logits on {split}")
        keep_predictions(predictions_path(self.job.out, split), self.task, logits, rows)
        self.worker.advance(len(rows))
        return SplitScores(
            len(rows), scores(self.task, logits, rows), count_parameters(self.model), self._latency(rows)
        )

    def _latency(self, rows: Rowset) -> float:
        """Median milliseconds of a forward pass over one row, over the split's first rows."""
        times = []
        with torch.inference_mode():
            for row in range(min(LATENCY_ROWS, len(rows))):
                batch = rows.batch(np.array([row]), self.worker.device)
                with TURN:  # no other stage of this process gives the device work meanwhile
                    began = time.perf_counter()
                    forward(self.model, batch.inputs).logits.cpu()
                    times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times)
