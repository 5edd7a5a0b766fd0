"""The stage ``neighbours`` against brute force over the filtered bank, with a real encoder and a real index."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from training_setups import Interrupted, RecordingListener, inline
from vectors import write_bank

from cluster.resources import On
from stages.candidates import neighbour_search, train_rows
from stages.candidates.neighbours import neighbours
from stages.candidates.table import read_candidates, read_table_meta
from stages.candidates.transfer import transfer
from stages.corpus.examples.token_rows import TokenRows
from stages.corpus.leakage import normalized, read_guard
from stages.corpus.reader import read_meta, read_split
from stages.corpus.row_key import row_key
from stages.models.text_encoder import TextEncoder, open_encoder
from stages.retrieval.embed import embed
from stages.retrieval.embeddings import read_embeddings
from stages.retrieval.index import index
from stages.specs.candidates import NeighboursSpec, TransferSpec
from stages.specs.retrieval import EmbedSpec, IndexSpec, ModelEncoder, TfIdf

Texts = tuple[str, ...]
THINGS, WORDS = ("film", "plot", "song", "scene"), ("fine", "dull", "odd", "warm", "sharp", "late")
CLEAN = [(f"a {word} {thing} {place}",) for word in WORDS for thing in THINGS for place in ("here", "there", "again")]


def said_otherwise(text: str) -> list[str]:
    return [text.upper(), f"  {text.replace(' ', '   ')} !", text.title() + "...", text.replace(" ", "-")]


def evaluated(corpus: Path) -> list[str]:
    splits = [name for name in read_meta(corpus).splits if name != "train"]
    return [text for name in splits for texts in read_split(corpus, name).texts() for text in texts]


def training(corpus: Path) -> dict[bytes, Texts]:
    split = read_split(corpus, "train")
    return dict(zip(split.keys, split.texts(), strict=True))


@dataclass(frozen=True)
class Bank:
    """A bank that was embedded and indexed by the stages."""

    rows: list[Texts]
    inputs: dict[str, Path]

    def of(self, corpus: Path) -> dict[str, Path]:
        return {**self.inputs, "corpus": corpus}


def made(home: Path, rows: Sequence[Texts], encoder: Path | None) -> Bank:
    home.mkdir(parents=True, exist_ok=True)
    inputs = {"bank": write_bank(home / "bank", rows), "embeddings": home / "embeddings"}
    inputs["embeddings"].mkdir()
    if encoder is None:
        embed(EmbedSpec(encoder=TfIdf(features=4096)), {"bank": inputs["bank"]}, inputs["embeddings"], inline())
        return Bank([*rows], inputs)
    spec = EmbedSpec(encoder=ModelEncoder(max_length=16))
    embed(spec, {"bank": inputs["bank"], "encoder": encoder}, inputs["embeddings"], inline())
    inputs |= {"index": home / "index", "encoder": encoder}
    inputs["index"].mkdir()
    index(IndexSpec(kind="exact"), {"embeddings": inputs["embeddings"]}, inputs["index"], inline())
    return Bank([*rows], inputs)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, encoder: Path) -> Bank:
    """Clean texts, some of train in other words' case, and many that the task is evaluated on, said otherwise."""
    own = [(text,) for (first,) in [*training(tiny_corpus).values()][:20] for text in said_otherwise(first)[:2]]
    planted = [(text,) for one in dict.fromkeys(evaluated(tiny_corpus)) for text in said_otherwise(one)]
    assert len(planted) > 2 * len(CLEAN)
    return made(tmp_path_factory.mktemp("bank"), [*planted[::2], *CLEAN, *own, *planted[1::2]], encoder)


@pytest.fixture(scope="module")
def pairs_bank(tmp_path_factory: pytest.TempPathFactory, pairs_corpus: Path, encoder: Path) -> Bank:
    planted = [(text,) for one in dict.fromkeys(evaluated(pairs_corpus)) for text in said_otherwise(one)]
    return made(tmp_path_factory.mktemp("pairs"), [*planted, *CLEAN], encoder)


@pytest.fixture(scope="module")
def joined_bank(tmp_path_factory: pytest.TempPathFactory, pairs_corpus: Path, encoder: Path) -> Bank:
    mixed = [(CLEAN[place][0], CLEAN[place * 7 % len(CLEAN)][0]) for place in range(len(CLEAN))]
    planted = [(one.upper(), CLEAN[3][0]) for one in dict.fromkeys(evaluated(pairs_corpus))]
    own = [(one.title(), other + " ?") for one, other in training(pairs_corpus).values()][:9]
    return made(tmp_path_factory.mktemp("joined"), [*planted, *mixed, *own], encoder)


def run(bank: Bank, corpus: Path, out: Path, on: On | None = None, **spec: object) -> dict[bytes, list[dict]]:
    """The table by training row."""
    out.mkdir(exist_ok=True)
    neighbours(NeighboursSpec.model_validate(spec), bank.of(corpus), out, on or inline())
    return by_row(out)


def by_row(out: Path) -> dict[bytes, list[dict]]:
    found: dict[bytes, list[dict]] = {}
    for row in read_candidates(out).to_pylist():
        found.setdefault(row["row_key"], []).append(row)
    return found


def brute(bank: Bank, corpus: Path, encoder: Path) -> Callable[..., list[tuple[Texts, float]]]:
    """The whole bank, ordered by the cosines of its stored vectors, then filtered one by one."""
    guard = read_guard(corpus)
    stored = read_embeddings(bank.inputs["embeddings"])
    vectors = stored.gather(np.arange(stored.rows))
    encode = open_encoder(ModelEncoder(max_length=16), encoder, "cpu", 1).encode

    def nearest(query: Texts, k: int, low: float = 0, high: float = 1) -> list[tuple[Texts, float]]:
        own = encode([query])[0]
        cosines, exact = np.vecdot(vectors, own), vectors.astype(np.float64) @ own.astype(np.float64)
        exact /= np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(own.astype(np.float64))
        seen, found = {tuple(map(normalized, query))}, []
        for row in np.lexsort((np.arange(len(vectors)), -cosines)).tolist():
            texts = bank.rows[row]
            key = tuple(map(normalized, texts))
            far = float(np.arccos(min(1.0, exact[row])) / np.pi)
            if key not in seen and not guard.blocks(texts) and len(found) < k and low <= far <= high:
                seen.add(key)
                found.append((texts, far))
        return found

    return nearest


def agree(found: Sequence[Texts], wanted: Sequence[tuple[Texts, float]], k: int) -> bool:
    """Whether these are the ``k`` nearest of all that are ``wanted``. An encoder's last bits follow from the batch, so
    of two that are equally near to four digits either may come first."""
    far = dict(wanted)
    distances = [far.get(texts, np.nan) for texts in found]
    return len({*found}) == len(found) and np.allclose(distances, [far for _, far in wanted[:k]], rtol=0, atol=1e-4)


def test_neighbours_are_those_of_brute_force_over_the_filtered_bank(
    bank: Bank, tiny_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    table, nearest = run(bank, tiny_corpus, tmp_path, k=5), brute(bank, tiny_corpus, encoder)
    assert table.keys() == training(tiny_corpus).keys()
    for key, texts in training(tiny_corpus).items():
        wanted = nearest(texts, 10)
        far = [far for _, far in wanted[:5]]
        np.testing.assert_allclose([row["distance"] for row in table[key]], far, atol=2e-4)
        assert agree([(row["sentence"],) for row in table[key]], wanted, 5)


def test_texts_that_are_evaluated_on_are_never_candidates_and_k_clean_ones_are_found(
    bank: Bank, tiny_corpus: Path, tmp_path: Path
) -> None:
    table, barred = run(bank, tiny_corpus, tmp_path, k=4), {normalized(text) for text in evaluated(tiny_corpus)}
    facts = read_table_meta(tmp_path).facts
    assert facts["searched_again"] > 0  # or the bank is no test of it
    assert facts["guarded"] > 0 < facts["own"]
    for key, rows in table.items():
        texts_found = [normalized(row["sentence"]) for row in rows]
        assert len({*texts_found}) == 4
        assert not barred & {*texts_found}
        assert normalized(training(tiny_corpus)[key][0]) not in texts_found
        assert [row["rank"] for row in rows] == [0, 1, 2, 3]
        assert all(row["candidate_key"] == row_key((row["sentence"],)) for row in rows)


def test_a_row_has_fewer_where_the_bank_has_no_more(tiny_corpus: Path, encoder: Path, tmp_path: Path) -> None:
    planted = [(text.upper(),) for text in dict.fromkeys(evaluated(tiny_corpus))]
    few = made(tmp_path / "few", [*planted, *CLEAN[:3], (CLEAN[1][0].upper(),)], encoder)
    out = tmp_path / "out"
    table = run(few, tiny_corpus, out, k=5)
    assert {len(rows) for rows in table.values()} == {3}
    assert read_table_meta(out).short == len(training(tiny_corpus))


def test_distances_stay_within_their_bounds(bank: Bank, tiny_corpus: Path, encoder: Path, tmp_path: Path) -> None:
    nearest = brute(bank, tiny_corpus, encoder)
    texts = training(tiny_corpus)
    everything = {key: nearest(row, len(bank.rows)) for key, row in texts.items()}
    low, high = np.quantile([far for found in everything.values() for _, far in found], [0.1, 0.2]).tolist()
    table, full = run(bank, tiny_corpus, tmp_path, k=6, min_distance=low, max_distance=high), 0
    for key, row in texts.items():
        surely = [far for _, far in nearest(row, 6, low + 1e-4, high - 1e-4)]
        maybe = [far for _, far in nearest(row, 6, low - 1e-4, high + 1e-4)]
        distances = [row["distance"] for row in table.get(key, [])]
        assert all(low <= distance <= high for distance in distances)
        assert len(surely) <= len(distances) <= len(maybe)
        if surely == maybe:
            np.testing.assert_allclose(distances, surely, atol=3e-4)
            full += len(surely) == 6
    assert full
    assert read_table_meta(tmp_path).facts["out_of_bounds"] > 0


def test_tf_idf_finds_texts_that_share_words(tiny_corpus: Path, bank: Bank, tmp_path: Path) -> None:
    counted = made(tmp_path / "tfidf", bank.rows, None)
    out = tmp_path / "out"
    table, barred = run(counted, tiny_corpus, out, k=3), {normalized(text) for text in evaluated(tiny_corpus)}
    assert sum(map(len, table.values())) > len(table)
    for key, rows in table.items():
        words = {*training(tiny_corpus)[key][0].split()}
        for row in rows:
            assert words & {*row["sentence"].lower().replace("-", " ").split()}
            assert row["distance"] < 0.5
            assert normalized(row["sentence"]) not in barred


# --- pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sides", "varied"), [("first", "one"), ("second", "two")])
def test_one_side_of_a_pair_is_searched_and_the_other_kept(
    sides: str, varied: str, pairs_bank: Bank, pairs_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    table, nearest = run(pairs_bank, pairs_corpus, tmp_path, k=3, sides=sides), brute(pairs_bank, pairs_corpus, encoder)
    side, guard = int(sides == "second"), read_guard(pairs_corpus)
    for key, texts in training(pairs_corpus).items():
        if guard.blocks((texts[1 - side],)):
            assert key not in table
            continue
        assert agree([(row[varied],) for row in table[key]], nearest((texts[side],), 9), 3)
        assert {row["two" if varied == "one" else "one"] for row in table[key]} == {texts[1 - side]}


def test_no_candidate_has_a_text_that_is_evaluated_on_in_either_column(
    pairs_bank: Bank, pairs_corpus: Path, tmp_path: Path
) -> None:
    guard, tables = read_guard(pairs_corpus), 0
    for sides in ("first", "second", "either", "both"):
        for rows in run(pairs_bank, pairs_corpus, tmp_path / sides, k=3, sides=sides).values():
            tables += 1
            assert not any(guard.blocks((row["one"], row["two"])) for row in rows)
    assert tables


def test_either_side_takes_turns(pairs_bank: Bank, pairs_corpus: Path, encoder: Path, tmp_path: Path) -> None:
    table, nearest = (
        run(pairs_bank, pairs_corpus, tmp_path, k=5, sides="either"),
        brute(pairs_bank, pairs_corpus, encoder),
    )
    guard, full = read_guard(pairs_corpus), 0
    for key, (one, two) in training(pairs_corpus).items():
        rows = table.get(key, [])
        first = [(row["one"],) for row in rows if row["two"] == two]
        second = [(row["two"],) for row in rows if row["one"] == one]
        turns = (0 if guard.blocks((two,)) else 3, 0 if guard.blocks((one,)) else 3)
        assert (len(first), len(second)) == ((3, 2) if min(turns) else turns)
        assert agree(first, nearest((one,), 9), len(first))
        assert agree(second, nearest((two,), 9), len(second))
        if min(turns):
            full += 1
            assert [row["two"] == two for row in rows] == [True, False, True, False, True]
    assert full


def test_both_sides_go_together_at_their_mean_distance(
    pairs_bank: Bank, pairs_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    table, nearest = (
        run(pairs_bank, pairs_corpus, tmp_path, k=4, sides="both"),
        brute(pairs_bank, pairs_corpus, encoder),
    )
    for key, (one, two) in training(pairs_corpus).items():
        first, second = nearest((one,), 9), nearest((two,), 9)
        assert agree([(row["one"],) for row in table[key]], first, 4)
        assert agree([(row["two"],) for row in table[key]], second, 4)
        means = [(far + farther) / 2 for (_, far), (_, farther) in zip(first, second, strict=True)][:4]
        np.testing.assert_allclose([row["distance"] for row in table[key]], means, atol=2e-4)


def test_a_pair_is_searched_as_one_in_a_bank_of_pairs(
    joined_bank: Bank, pairs_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    table, nearest = (
        run(joined_bank, pairs_corpus, tmp_path, k=3, sides="joined"),
        brute(joined_bank, pairs_corpus, encoder),
    )
    assert read_table_meta(tmp_path).facts["own"] > 0
    for key, texts in training(pairs_corpus).items():
        assert agree([(row["one"], row["two"]) for row in table[key]], nearest(texts, 9), 3)


# --- how it runs ------------------------------------------------------------------------------------------


class Backwards:
    def __init__(self, on: On) -> None:
        self.on = on

    def __getattr__(self, name: str) -> object:
        return getattr(self.on, name)

    def map(self, open_worker, config, items):  # noqa: ANN001, ANN201
        for place, result in self.on.map(open_worker, config, items[::-1]):
            yield len(items) - 1 - place, result


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_rows, "ROWS_A_PART", 20)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("stage", ["neighbours", "transfer"])
def test_a_run_that_is_cut_goes_on_and_order_changes_nothing(
    stage: str, bank: Bank, tiny_corpus: Path, tmp_path: Path
) -> None:
    def make(name: str, on: On) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        if stage == "neighbours":
            neighbours(NeighboursSpec(k=3), bank.of(tiny_corpus), tmp_path / name, on)
        else:
            transfer(TransferSpec(k=3), bank.of(tiny_corpus), tmp_path / name, on)
        return tmp_path / name

    def cut(done: float) -> None:
        if done >= 20:
            raise Interrupted

    with pytest.raises(Interrupted):
        make("cut", inline(RecordingListener(cut)))
    again = RecordingListener()
    resumed, whole, backwards = make("cut", inline(again)), make("whole", inline()), make("back", Backwards(inline()))
    rows = len(training(tiny_corpus))
    assert again.expected == [rows - 20]
    for other in (resumed, backwards):
        assert {p.name: p.read_bytes() for p in other.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


def test_a_part_that_was_interrupted_goes_on_from_the_queries_that_were_encoded(
    bank: Bank, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.models.text_encoder.tokens_per_pass", lambda *_: 64)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    neighbours(NeighboursSpec(k=3), bank.of(tiny_corpus), tmp_path / "whole", inline())
    monkeypatch.setattr("stages.saved_rows.SAVE_SECONDS", 0.0)
    encoded: list[int] = []
    run = TextEncoder._run

    def interrupted(self: TextEncoder, texts: TokenRows, rows: np.ndarray) -> np.ndarray:
        if sum(encoded) > 20:
            raise Interrupted
        encoded.append(len(rows))
        return run(self, texts, rows)

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "_run", interrupted)
        with pytest.raises(Interrupted):
            neighbours(NeighboursSpec(k=3), bank.of(tiny_corpus), tmp_path / "cut", inline())
    before, after = sum(encoded), list[int]()
    monkeypatch.setattr(
        TextEncoder, "_run", lambda self, texts, rows: after.append(len(rows)) or run(self, texts, rows)
    )
    neighbours(NeighboursSpec(k=3), bank.of(tiny_corpus), tmp_path / "cut", inline())
    assert sum(after) == len(training(tiny_corpus)) - before
    files = [{path.name: path.read_bytes() for path in (tmp_path / one).glob("*.*")} for one in ("whole", "cut")]
    assert files[0] == files[1] and not list((tmp_path / "cut" / "scratch").iterdir())


def test_texts_that_are_looked_at_a_few_at_a_time_change_nothing(
    bank: Bank, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(bank, tiny_corpus, tmp_path / "whole", k=4)
    monkeypatch.setattr(neighbour_search, "NEIGHBOURS_AT_ONCE", 50)
    assert run(bank, tiny_corpus, tmp_path / "few", k=4) == whole


def test_what_does_not_go_together_is_refused_before_work_starts(
    bank: Bank,
    pairs_bank: Bank,
    joined_bank: Bank,
    tiny_corpus: Path,
    pairs_corpus: Path,
    teacher: Path,
    tmp_path: Path,
) -> None:
    for use, corpus, sides, message in (
        (bank, tiny_corpus, "second", "sides: second, but tiny has one text a row; choose first"),
        (bank, tiny_corpus, "joined", "sides: joined, but tiny has one text a row; choose first"),
        (pairs_bank, pairs_corpus, "joined", "sides: joined, but the bank has single texts; give a bank of pairs, or"),
        (joined_bank, pairs_corpus, "first", "bank: its rows are pairs, but sides: first searches single texts"),
        (joined_bank, tiny_corpus, "first", "bank: its rows are pairs, but sides: first searches single texts"),
        (
            Bank([], {**bank.inputs, "bank": pairs_bank.inputs["bank"]}),
            tiny_corpus,
            "first",
            "embeddings: .*embed this",
        ),
        (Bank([], {**bank.inputs, "index": pairs_bank.inputs["index"]}), tiny_corpus, "first", "index: .*index these"),
        (Bank([], {**bank.inputs, "encoder": teacher}), tiny_corpus, "first", "encoder: .*give that one"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            run(use, corpus, tmp_path / "out", sides=sides)
        assert "\n" not in str(error.value)
        assert not list((tmp_path / "out").iterdir())


# --- at random --------------------------------------------------------------------------------------------


def test_a_transfer_set_is_clean_and_distinct_and_drawn_from_all_of_the_bank(
    bank: Bank, tiny_corpus: Path, tmp_path: Path
) -> None:
    facts = transfer(TransferSpec(k=6), bank.of(tiny_corpus), tmp_path, inline())
    barred, clean = {normalized(text) for text in evaluated(tiny_corpus)}, {normalized(text) for (text,) in CLEAN}
    drawn = set()
    for key, rows in by_row(tmp_path).items():
        texts_found = {normalized(row["sentence"]) for row in rows}
        assert len(rows) == len(texts_found) == 6
        assert not texts_found & barred
        assert normalized(training(tiny_corpus)[key][0]) not in texts_found
        assert all(np.isnan(row["distance"]) for row in rows)
        drawn |= texts_found
    assert len(clean & drawn) > 0.7 * len(clean)
    assert facts["rows_with_fewer"] == 0


def test_draws_depend_on_seed_and_row_alone_and_are_even(bank: Bank, tiny_corpus: Path, tmp_path: Path) -> None:
    from stages.candidates.transfer import drawn

    one, other = drawn(3, b"a" * 16, range(9), 10**6), drawn(3, b"b" * 16, range(9), 10**6)
    assert one != other
    assert one == drawn(3, b"a" * 16, range(9), 10**6) != drawn(4, b"a" * 16, range(9), 10**6)
    counts = np.bincount(drawn(0, b"c" * 16, range(20_000), 50), minlength=50)
    assert ((counts - 400) ** 2 / 400).sum() < 94  # chi-squared with 49 degrees of freedom, p = 1e-4


def test_a_transfer_set_of_pairs_needs_a_bank_of_pairs(
    pairs_bank: Bank, joined_bank: Bank, tiny_corpus: Path, pairs_corpus: Path, tmp_path: Path
) -> None:
    transfer(TransferSpec(k=2), joined_bank.of(pairs_corpus), tmp_path, inline())
    rows = set(joined_bank.rows)
    assert all((row["one"], row["two"]) in rows for found in by_row(tmp_path).values() for row in found)
    with pytest.raises(ValueError, match="bank: it has single texts, but a row of pairs is of pairs; give a bank of"):
        transfer(TransferSpec(), pairs_bank.of(pairs_corpus), tmp_path, inline())
    with pytest.raises(ValueError, match="bank: it has pairs, but a row of tiny is of single texts; give a bank of"):
        transfer(TransferSpec(), joined_bank.of(tiny_corpus), tmp_path, inline())


def test_a_bank_with_few_clean_texts_leaves_rows_short(tiny_corpus: Path, tmp_path: Path) -> None:
    rows = [*((text.upper(),) for text in evaluated(tiny_corpus)), *CLEAN[:3]]
    inputs = {"bank": write_bank(tmp_path / "bank", rows), "corpus": tiny_corpus}
    (tmp_path / "out").mkdir()
    transfer(TransferSpec(k=4), inputs, tmp_path / "out", inline())
    found = by_row(tmp_path / "out")
    assert found.keys() == training(tiny_corpus).keys()
    assert all({row["sentence"] for row in rows} == {text for (text,) in CLEAN[:3]} for rows in found.values())


# --- pins -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [neighbours, transfer])
def test_a_bank_with_fewer_texts_than_k_warns_with_counts_and_one_without_any_is_refused(
    stage: Callable[..., dict[str, object]], tiny_corpus: Path, tmp_path: Path
) -> None:
    spec = NeighboursSpec(k=8) if stage is neighbours else TransferSpec(k=8)
    guarded = [(text,) for text in said_otherwise(evaluated(tiny_corpus)[0])[:2]]
    few = made(tmp_path / "few", [("a fine film",), ("A FINE FILM!",), *guarded], None)
    (tmp_path / "out").mkdir()
    listener = RecordingListener()
    facts = stage(spec, few.of(tiny_corpus), tmp_path / "out", inline(listener))
    line = (
        "k: 8, but only 1 of the bank's 4 texts may be candidates (the others are alike, or the task is evaluated on "
        "them), so that no row has more than 1; enlarge the bank, or set k to 1"
    )
    assert facts["warnings"] == [line] and line in listener.lines
    enough = made(tmp_path / "enough", CLEAN[:8], None)
    (tmp_path / "other").mkdir()
    assert "warnings" not in stage(spec, enough.of(tiny_corpus), tmp_path / "other", inline())
    none = made(tmp_path / "none", guarded, None)
    with pytest.raises(ValueError, match=r"^bank: the task tiny is evaluated on each of its 2 texts, so that none may"):
        stage(spec, none.of(tiny_corpus), tmp_path / "out", inline())


def test_the_output_of_transfer_is_pinned_to_its_version(tiny_corpus: Path, tmp_path: Path) -> None:
    inputs = {"bank": write_bank(tmp_path / "bank", CLEAN), "corpus": tiny_corpus}
    (tmp_path / "out").mkdir()
    transfer(TransferSpec(k=3, seed=5), inputs, tmp_path / "out", inline())
    first = read_candidates(tmp_path / "out")["sentence"].to_pylist()[:4]
    assert (TransferSpec.version, first) == (1, TRANSFERRED)


def test_the_output_of_neighbours_is_pinned_to_its_version(tiny_corpus: Path, tmp_path: Path) -> None:
    """By TF-IDF, in which no machine's last bits show."""
    counted = made(tmp_path / "tfidf", CLEAN, None)
    table = run(counted, tiny_corpus, tmp_path / "out", k=2)
    found = [(row["sentence"], round(row["distance"], 4)) for rows in [*table.values()][:2] for row in rows]
    assert NeighboursSpec.version == 2
    assert [text for text, _ in found] == [text for text, _ in NEAREST]
    assert [far for _, far in found] == pytest.approx([far for _, far in NEAREST], abs=2e-4)


TRANSFERRED = ["a fine film here", "a fine scene here", "a dull scene there", "a odd song here"]
NEAREST = [(f"a fine film {place}", far) for far in (0.4789, 0.4616) for place in ("here", "there")]


@pytest.mark.parametrize("stage", ["neighbours", "transfer"])
def test_the_driver_loads_no_heavy_module(stage: str) -> None:
    heavy = "{'faiss', 'torch', 'scipy', 'sklearn', 'transformers'}"
    code = f"import sys, stages.candidates.{stage}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
