"""Searches the neighbours of training rows in a worker, and writes them as parts of a candidate table."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cluster.resources import Worker
from stages.bank.reader import read_bank_meta
from stages.candidates.job import NeighbourJob, encoder_of
from stages.candidates.neighbour_filter import KeptText, NeighbourFilter, Texts, read_bank_texts
from stages.candidates.random_texts import RandomTexts
from stages.candidates.table import Candidate, write_part
from stages.candidates.train_rows import TrainRows, distinct_train_rows
from stages.corpus.leakage import read_guard
from stages.corpus.reader import SCRATCH, read_meta
from stages.retrieval.embeddings import read_embeddings
from stages.saved_rows import SavedRows

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

EXTRA_NEIGHBOURS = 8
"""The first search of a text asks for this many neighbours more than ``k``, as some will be filtered out."""
MOST_NEIGHBOURS = 8192
"""The deepest search of a text asks for this many neighbours."""
NEIGHBOURS_AT_ONCE = 2**17
"""Neighbours, over all queries, whose texts are in memory at a time."""

COUNTS = ("searched", "searched_again", "own", "guarded", "out_of_bounds", "alike", "kept_guarded")
"""What a table's facts count: distinct texts searched for; repeated, deeper searches; neighbours left out, by reason
(see ``NeighbourFilter``); and, for pairs, rows whose other text, which stays, is one the task is evaluated on."""


class TextSearch(Protocol):
    """An encoder and a search among the vectors of a bank. Queries are any array with one row for each text."""

    def encode(self, texts: Sequence[Texts], saved: SavedRows) -> Any:
        """The queries for these texts. What takes long to compute is saved meanwhile, and restored from ``saved``."""
        ...

    def search(self, queries: Any, k: int) -> tuple[Floats, Rows]:
        """(cosines, rows of the bank), each [n, k], the nearest first; row -1 where there are fewer than k."""
        ...

    def angles(self, queries: Any, rows: Rows) -> Floats:
        """[n, k] angles between each query and the rows found for it, as shares of pi; NaN for row -1."""
        ...


class NeighbourSearchWorker:
    """A worker's encoder, index and training rows."""

    def __init__(self, job: NeighbourJob, worker: Worker) -> None:
        self.job = job
        self.spec = job.spec
        self.worker = worker
        self.text_search = open_text_search(job, worker)
        self.guard = read_guard(job.corpus)
        self.train_rows = distinct_train_rows(job.corpus)
        self.text = read_meta(job.corpus).task.text
        self.deepest = min(MOST_NEIGHBOURS, read_bank_meta(job.bank).rows)
        self.part = 0
        self.saved: list[SavedRows] = []
        """The queries that have been saved for the part that is being written."""

    def write(self, number: int) -> int:
        """Write the part ``number`` of the candidate table; return how many training rows it covers."""
        train_rows = self.train_rows.part(number)
        self.saved = []
        self.part = number
        counts = dict.fromkeys(COUNTS, 0)
        candidates = self._candidates(train_rows, counts)
        if self.spec.random:
            candidates = RandomTexts(self.spec, self.job.bank, self.guard).mixed_into(train_rows, candidates)
        write_part(self.job.out, number, self.text, list(zip(train_rows.keys, candidates, strict=True)), counts)
        for saved in self.saved:
            saved.remove()
        self.worker.advance(len(train_rows))
        return len(train_rows)

    def _candidates(self, train_rows: TrainRows, counts: dict[str, int]) -> list[list[Candidate]]:
        """The candidates of each training row, the nearest first."""
        if len(self.text) == 1 or self.spec.sides == "joined":
            neighbours = self._neighbours(train_rows.texts, counts)
            return [[Candidate(one.texts, one.distance) for one in neighbours[texts]] for texts in train_rows.texts]
        match self.spec.sides:
            case "first" | "second" as side:
                return self._one_side(train_rows, int(side == "second"), counts)
            case "either":
                first, second = (self._one_side(train_rows, side, counts) for side in (0, 1))
                return [alternating(*both)[: self.spec.k] for both in zip(first, second, strict=True)]
            case _:
                return self._both_sides(train_rows, counts)

    def _one_side(self, train_rows: TrainRows, side: int, counts: dict[str, int]) -> list[list[Candidate]]:
        """Neighbours of one text of each pair, beside the pair's other text. A pair whose other text is one that the
        task is evaluated on gets none."""
        blocked = [self.guard.blocks((texts[1 - side],)) for texts in train_rows.texts]
        counts["kept_guarded"] += sum(blocked)
        searched = [(texts[side],) for texts, bad in zip(train_rows.texts, blocked, strict=True) if not bad]
        neighbours = self._neighbours(searched, counts)
        candidates = []
        for texts, bad in zip(train_rows.texts, blocked, strict=True):
            found = [] if bad else neighbours[(texts[side],)]
            candidates.append([Candidate(with_side(texts, side, one.texts[0]), one.distance) for one in found])
        return candidates

    def _both_sides(self, train_rows: TrainRows, counts: dict[str, int]) -> list[list[Candidate]]:
        """Candidate i of a pair is the i-th neighbour of its first text with the i-th of its second, at the mean of
        their distances. There are as many as the text with fewer neighbours has."""
        neighbours = self._neighbours([(text,) for texts in train_rows.texts for text in texts], counts)
        return [
            [
                Candidate((one.texts[0], other.texts[0]), (one.distance + other.distance) / 2)
                for one, other in zip(neighbours[(first,)], neighbours[(second,)], strict=False)
            ]
            for first, second in train_rows.texts
        ]

    def _neighbours(self, texts: Sequence[Texts], counts: dict[str, int]) -> dict[Texts, list[KeptText]]:
        """Each distinct query -> its ``k`` nearest texts that pass the filter, or fewer where the bank has no more. A
        query that is left with fewer than ``k`` is searched again, twice as deep, up to ``self.deepest``."""
        distinct = list(dict.fromkeys(texts))
        counts["searched"] += len(distinct)
        # Each search of a part saves its own queries, as the bits of a vector depend on the texts encoded with it.
        saved = SavedRows(self.job.out / SCRATCH, f"queries-{self.part:05d}-{len(self.saved)}")
        self.saved.append(saved)
        queries: Any = self.text_search.encode(distinct, saved) if distinct else None
        neighbours: dict[Texts, list[KeptText]] = {}
        open_places, depth = np.arange(len(distinct)), min(self.deepest, self.spec.k + EXTRA_NEIGHBOURS)
        while len(open_places):
            too_few = []
            for start in range(0, len(open_places), step := max(1, NEIGHBOURS_AT_ONCE // depth)):
                places = open_places[start : start + step]
                rows = self.text_search.search(queries[places], depth)[1]
                distances = self.text_search.angles(queries[places], rows)
                too_few += self._filter_found(distinct, places, distances, rows, neighbours, counts)
            open_places, depth = np.array(too_few, np.int64), min(self.deepest, 2 * depth)
            counts["searched_again"] += len(open_places)
            if len(open_places):
                self.worker.note(f"searches {depth} deep for {len(open_places)} of {len(distinct)} texts")
        return neighbours

    def _filter_found(
        self,
        distinct: Sequence[Texts],
        places: Rows,
        distances: Floats,
        rows: Rows,
        neighbours: dict[Texts, list[KeptText]],
        counts: dict[str, int],
    ) -> list[int]:
        """Filter what was found for the queries at ``places`` and enter it in ``neighbours`` and ``counts``. Returns
        the places that are not entered, because a deeper search may find more for them."""
        bank_texts = read_bank_texts(self.job.bank, rows, self.guard)
        low, high = self.spec.min_distance, self.spec.max_distance
        too_few = []
        for place, found_rows, found_distances in zip(places.tolist(), rows, distances, strict=True):
            pairs = zip(found_rows.tolist(), found_distances.tolist(), strict=True)
            found = [(row, distance) for row, distance in pairs if row >= 0]
            neighbour_filter = NeighbourFilter(self.spec.k, lambda distance: low <= distance <= high)
            kept = neighbour_filter.apply(distinct[place], found, bank_texts)
            deeper = len(found) == len(found_rows) < self.deepest and found[-1][1] <= high
            if len(kept) < self.spec.k and deeper:
                too_few.append(place)
                continue
            neighbours[distinct[place]] = kept
            for reason, count in neighbour_filter.left_out.items():
                counts[reason] += count
        return too_few


def alternating(first: Sequence[Candidate], second: Sequence[Candidate]) -> list[Candidate]:
    """first[0], second[0], first[1], second[1], ...; when one of them has no more, the rest of the other."""
    return [one for one in chain.from_iterable(zip_longest(first, second)) if one is not None]


def with_side(texts: Texts, side: int, text: str) -> Texts:
    """The pair ``texts`` with its text at ``side`` replaced."""
    return (text, texts[1]) if side == 0 else (texts[0], text)


def open_text_search(job: NeighbourJob, worker: Worker) -> TextSearch:
    """The search that fits the kind of the job's embeddings. Heavy modules are imported here."""
    embeddings = read_embeddings(job.embeddings)
    if embeddings.kind == "tfidf":
        from stages.retrieval.tfidf import open_tfidf

        return open_tfidf(job.embeddings)
    assert job.encoder is not None
    from stages.models.text_encoder import open_encoder
    from stages.retrieval.search import open_search

    search = open_search(job.index, embeddings, worker.threads, worker.device)
    encoder = open_encoder(encoder_of(embeddings), job.encoder, worker.device, worker.threads)
    return EncodedTextSearch(encoder, search)


class EncodedTextSearch:
    """A ``TextSearch`` of a sentence encoder and a search among the vectors that it made of the bank."""

    def __init__(self, encoder: Any, search: Any) -> None:
        self.encode = encoder.encode_saving
        self.search = search.search
        self.angles = search.angles
