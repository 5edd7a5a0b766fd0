"""Measures work on texts in a worker: tokenising, cleaning, embedding, and comparing vectors."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from cluster.resources import Worker
from stages.bank.bank import text_streams
from stages.bank.cleaning import Texts, clean_rows
from stages.bank.dedup import text_keys
from stages.bank.ingest import blocks_of
from stages.bank.reader import read_bank_meta, read_bank_part
from stages.corpus.reader import TOKENIZER, read_split
from stages.corpus.row_key import row_key
from stages.corpus.tokenizer import load_tokenizer
from stages.specs.tasks import TRAIN
from stages.timing.job import BankTiming, Figures, TokenizerTiming

ROWS = 2048
"""Texts that are measured, at most."""
ROUND = 128
VECTORS = 8192
"""Vectors that are compared with ``ROUND`` others, to measure a search."""


def measure_tokenizer(job: TokenizerTiming) -> Figures:
    """Seconds for each row to tokenise it."""
    tokenizer = load_tokenizer(job.corpus / TOKENIZER)
    texts = read_split(job.corpus, TRAIN).texts()[:ROWS]

    def tokenise(rows: Sequence[Texts]) -> None:
        for row in rows:
            row_key(row)
        tokenizer(*(list(column) for column in zip(*rows, strict=True)), padding=False)

    return {"token_row": _each(tokenise, texts, job.seconds)}


def measure_bank(job: BankTiming, worker: Worker) -> Figures:
    """Seconds for each text: to read and clean it, if the bank is not built, and to embed it; and for each comparison
    of two vectors."""
    figures: Figures = {}
    if job.built is None:
        texts, figures["clean_row"] = _cleaned(job)
    else:
        table = read_bank_part(job.built, 0)
        columns = read_bank_meta(job.built).columns
        texts = list(zip(*(table[name].to_pylist()[:ROWS] for name in columns), strict=True))
    if job.encoder is None or job.model is None or not texts:
        return figures
    from stages.models.text_encoder import open_encoder

    began = time.monotonic()
    encoder = open_encoder(job.encoder, job.model, worker.device, worker.threads)
    figures["load"] = time.monotonic() - began
    order = np.random.default_rng(0).permutation(len(texts))
    encoder.encode([texts[row] for row in order[:ROUND]])
    figures["embed_row"] = _each(encoder.encode, [texts[row] for row in order], job.seconds)
    figures["compare"] = _comparison(encoder.encode([texts[0]]).shape[1])
    return figures


def _cleaned(job: BankTiming) -> tuple[list[Texts], float]:
    """The first texts of a bank that is not built, cleaned; and the seconds that a row took."""
    stream = text_streams(job.spec, dict(job.files))[0]
    began = time.monotonic()
    block = next(iter(blocks_of(job.spec, stream)))
    read = (time.monotonic() - began) / max(1, len(block.rows))
    began = time.monotonic()
    texts, _ = clean_rows(block.rows[:ROWS], job.spec)
    text_keys(texts, job.spec.near_duplicates)
    return texts, read + (time.monotonic() - began) / max(1, len(block.rows[:ROWS]))


def _each(do: Callable[[Sequence[Texts]], object], texts: Sequence[Texts], seconds: float) -> float:
    """Seconds for each text, over rounds of ``ROUND`` texts until ``seconds`` have passed or there are no more."""
    began, done = time.monotonic(), 0
    for start in range(0, len(texts), ROUND):
        do(texts[start : start + ROUND])
        done += len(texts[start : start + ROUND])
        if time.monotonic() - began >= seconds:
            break
    return (time.monotonic() - began) / max(1, done)


def _comparison(width: int) -> float:
    """Seconds for each comparison of two vectors of this width in an exact search."""
    one = np.ones((ROUND, width), np.float32)
    others = np.ones((VECTORS, width), np.float16)
    times = []
    for _ in range(3):
        began = time.monotonic()
        np.argpartition(-(one @ others.astype(np.float32).T), 16, axis=1)
        times.append(time.monotonic() - began)
    return min(times) / (ROUND * VECTORS)
