"""Neighbours in a worker: rows of train in, parts of a candidate table out."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cluster.resources import Worker
from stages.bank.reader import read_bank_meta
from stages.candidates.job import NeighbourJob, encoder_of
from stages.candidates.neighbour_filter import Kept, NeighbourFilter, Texts, read_known
from stages.candidates.table import Candidate, write_part
from stages.candidates.train_rows import TrainRows, distinct_train_rows
from stages.corpus.leakage import read_guard
from stages.corpus.reader import read_meta
from stages.retrieval.embeddings import read_embeddings

Cosines = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

MORE = 8
"""So many more than ``k`` are searched for at first."""
DEEPEST = 8192
"""Neighbours of a query that are looked at, at most."""
AT_ONCE = 2**17
"""Neighbours of all queries whose texts are in memory at a time."""

FACTS = ("searched", "searched_again", "own", "guarded", "out_of_bounds", "alike", "kept_guarded")
"""Distinct texts that were searched for, and how often deeper; what was passed over, by why; rows of pairs whose text
that stays is evaluated on."""


class TextSearch(Protocol):
    """Turns texts into queries, any array of a row each, and finds what is near them."""

    def encode(self, texts: Sequence[Texts]) -> Any: ...
    def search(self, queries: Any, k: int) -> tuple[Cosines, Rows]: ...


class NeighbourSearchWorker:
    """A worker's encoder, index and training rows."""

    def __init__(self, job: NeighbourJob, worker: Worker) -> None:
        self.job = job
        self.spec = job.spec
        self.worker = worker
        self.finding = open_text_search(job, worker)
        self.guard = read_guard(job.corpus)
        self.train_rows = distinct_train_rows(job.corpus)
        self.text = read_meta(job.corpus).task.text
        self.deepest = min(DEEPEST, read_bank_meta(job.bank).rows)

    def write(self, number: int) -> int:
        """Write one part; say how many rows it is of."""
        train_rows = self.train_rows.part(number)
        facts = dict.fromkeys(FACTS, 0)
        candidates = self._candidates(train_rows, facts)
        write_part(self.job.out, number, self.text, list(zip(train_rows.keys, candidates, strict=True)), facts)
        self.worker.advance(len(train_rows))
        return len(train_rows)

    def _candidates(self, train_rows: TrainRows, facts: dict[str, int]) -> list[list[Candidate]]:
        """Those of each row, in rank order."""
        if len(self.text) == 1 or self.spec.sides == "joined":
            near = self._near(train_rows.texts, self.spec.k, facts)
            return [[Candidate(one.texts, one.distance) for one in near[texts]] for texts in train_rows.texts]
        match self.spec.sides:
            case "first" | "second" as side:
                return self._one_side(train_rows, int(side == "second"), self.spec.k, facts)
            case "either":
                first, second = (self._one_side(train_rows, side, self.spec.k, facts) for side in (0, 1))
                return [alternating(*both)[: self.spec.k] for both in zip(first, second, strict=True)]
            case _:
                return self._both(train_rows, facts)

    def _one_side(self, train_rows: TrainRows, side: int, k: int, facts: dict[str, int]) -> list[list[Candidate]]:
        """Neighbours of one text of each row, the other kept. A row whose other text is evaluated on has none."""
        kept = [self.guard.blocks((texts[1 - side],)) for texts in train_rows.texts]
        facts["kept_guarded"] += sum(kept)
        near = self._near([(row[side],) for row, bad in zip(train_rows.texts, kept, strict=True) if not bad], k, facts)
        found = []
        for texts, bad in zip(train_rows.texts, kept, strict=True):
            mine = [] if bad else near[(texts[side],)]
            found.append([Candidate(replaced(texts, side, one.texts[0]), one.distance) for one in mine])
        return found

    def _both(self, train_rows: TrainRows, facts: dict[str, int]) -> list[list[Candidate]]:
        """The i-th neighbours of both texts together, as long as both have one."""
        near = self._near([(text,) for texts in train_rows.texts for text in texts], self.spec.k, facts)
        return [
            [
                Candidate((one.texts[0], other.texts[0]), (one.distance + other.distance) / 2)
                for one, other in zip(near[(first,)], near[(second,)], strict=False)
            ]
            for first, second in train_rows.texts
        ]

    def _near(self, texts: Sequence[Texts], k: int, facts: dict[str, int]) -> dict[Texts, list[Kept]]:
        """The ``k`` nearest that may be candidates, or fewer where there are no more, of each distinct query."""
        distinct = list(dict.fromkeys(texts))
        facts["searched"] += len(distinct)
        queries: Any = self.finding.encode(distinct) if distinct else None
        near: dict[Texts, list[Kept]] = {}
        left, wide = np.arange(len(distinct)), min(self.deepest, k + MORE)
        while len(left):
            short = []
            for start in range(0, len(left), step := max(1, AT_ONCE // wide)):
                some = left[start : start + step]
                short += self._judge(distinct, some, *self.finding.search(queries[some], wide), k, near, facts)
            left, wide = np.array(short, np.int64), min(self.deepest, 2 * wide)
            facts["searched_again"] += len(left)
            if len(left):
                self.worker.note(f"searches {wide} deep for {len(left)} of {len(distinct)} texts")
        return near

    def _judge(
        self,
        distinct: Sequence[Texts],
        places: Rows,
        cosines: Cosines,
        rows: Rows,
        k: int,
        near: dict[Texts, list[Kept]],
        facts: dict[str, int],
    ) -> list[int]:
        """Put what remains into ``near``; the places of queries that are to be searched for more."""
        known = read_known(self.job.bank, rows, self.guard)
        distances, short = angles(cosines), []
        low, high = self.spec.min_distance, self.spec.max_distance
        for place, there, far in zip(places.tolist(), rows, distances, strict=True):
            neighbour_filter = NeighbourFilter(k, lambda distance: low <= distance <= high)
            found = [(row, distance) for row, distance in zip(there.tolist(), far.tolist(), strict=True) if row >= 0]
            kept = neighbour_filter.kept(distinct[place], found, known)
            more = len(found) == len(there) < self.deepest and found[-1][1] <= high
            if len(kept) < k and more:
                short.append(place)
                continue
            near[distinct[place]] = kept
            for reason, count in neighbour_filter.left_out.items():
                facts[reason] += count
        return short


def alternating(first: Sequence[Candidate], second: Sequence[Candidate]) -> list[Candidate]:
    """By turns; when one side has no more, the rest of the other."""
    return [one for one in chain.from_iterable(zip_longest(first, second)) if one is not None]


def replaced(texts: Texts, side: int, text: str) -> Texts:
    return (text, texts[1]) if side == 0 else (texts[0], text)


def angles(cosines: Cosines) -> Cosines:
    """As shares of pi, from 0 to 1."""
    found: Cosines = (np.arccos(np.clip(cosines, -1, 1)) / np.pi).astype(np.float32)
    return found


def open_text_search(job: NeighbourJob, worker: Worker) -> TextSearch:
    embeddings = read_embeddings(job.embeddings)
    if embeddings.kind == "tfidf":
        from stages.retrieval.tfidf import open_tfidf

        return open_tfidf(job.embeddings)
    assert job.encoder is not None
    from stages.models.text_encoder import open_encoder
    from stages.retrieval.search import open_search

    search = open_search(job.index, embeddings, worker.threads, worker.device)
    encoder = open_encoder(encoder_of(embeddings), job.encoder, worker.device, worker.threads)
    return Encoded(encoder.encode, search.search)


class Encoded:
    """A model's encoder, and a search among its vectors."""

    def __init__(self, encode: Any, search: Any) -> None:
        self.encode = encode
        self.search = search
