"""The stage that rewrites train: what comes out, of what, and that only seeds and content decide it."""

import hashlib
import json
import math
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rewriters import VOCABULARY, texts_by_row, write_filler, write_marian, write_translator
from tiny import packaged_model, write_tiny_model
from training_setups import Interrupted, RecordingListener, inline, write_corpus
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

import stages.rewriting.rewrite
from cluster.inline import InlineOn, InlineWorker
from cluster.resources import Resources
from stages.candidates.table import read_candidates, read_table_meta
from stages.corpus.leakage import normalized, read_guard
from stages.corpus.reader import read_split
from stages.rewriting.back_translation import SampledTokens, Translator
from stages.rewriting.draws import RewriteRow
from stages.rewriting.embedding_neighbours import NearestWords
from stages.rewriting.masked_lm import MaskFiller
from stages.rewriting.rewrite import RewriteJob, open_rewriter, rewrite
from stages.rewriting.substitution import replace_words
from stages.rewriting.words import words_of
from stages.specs.candidates import Masked, RewriteSpec, Translated, Words
from stages.specs.tasks import Task

SYNONYMS = {
    "film": ("movie", "picture", "feature"),
    "story": ("tale", "plot"),
    "great": ("superb", "grand"),
    "dull": ("boring", "dreary", "tedious"),
    "loved": ("adored", "liked"),
    "cast": ("crew",),
}
TRAIN = ["The film was great", "the story, dull as it is, loved the FILM", "A great cast", "nothing here", "dull dull"]
DEV = ["the MOVIE was great!", "a superb crew", "another"]
ONE = Task(name="one", text=("sentence",), labels=("no", "yes"))
TWO = Task(name="two", text=("first", "second"), labels=("no", "yes"))


class Backwards(InlineOn):
    """Another place to run: a worker an item, the last item first."""

    def map(
        self, open_worker: Callable[[Any, InlineWorker], Callable[[Any], Any]], config: Any, items: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(items))):
            yield index, open_worker(config, self._worker())(items[index])


def corpus_of(task: Task, home: Path, train: Sequence[Sequence[str]], dev: Sequence[Sequence[str]]) -> Path:
    home.mkdir(exist_ok=True)
    for split, rows in (("train", train), ("validation", dev)):
        texts = {name: [row[place] for row in rows] for place, name in enumerate(task.text)}
        labels = pa.array([number % 2 for number in range(len(rows))], pa.int64())
        pq.write_table(pa.table({**texts, "label": labels}), home / f"{split}.parquet")
    return write_corpus(task, home, packaged_model(), home / "corpus")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some rows of train are there twice. A fifth of its rows is held out: each text is there often enough."""
    rows = [(f"{text} {word}",) for text in TRAIN for word in ("indeed", "again", "today", "", "")]
    return corpus_of(ONE, tmp_path_factory.mktemp("one"), rows, [(text,) for text in DEV])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(f"The film number {row}", f"a dull story about {row}") for row in range(20)]
    return corpus_of(TWO, tmp_path_factory.mktemp("two"), rows, [("one", "two")])


@pytest.fixture(scope="module")
def synonyms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("synonyms") / "synonyms.txt"
    file.write_text("".join(f"{word}\t{', '.join(alternatives)}\n" for word, alternatives in SYNONYMS.items()), "utf-8")
    return file


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_filler(tmp_path_factory.mktemp("filler"))


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_translator(tmp_path_factory.mktemp(name), seed) for seed, name in enumerate(("there", "back"))}


def made(spec: RewriteSpec, inputs: dict[str, Path], out: Path) -> dict[bytes, list[tuple[str, ...]]]:
    rewrite(spec, inputs, out, inline())
    return texts_by_row(out, *read_table_meta(out).text)


# --- any maker --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Words(), Masked(nearest=4), Translated()])
def test_candidates_are_distinct_and_none_is_the_rows_own_text_or_an_evaluated_one(
    how: Words | Masked | Translated,
    corpus: Path,
    synonyms: Path,
    filler: Path,
    translators: dict[str, Path],
    tmp_path: Path,
) -> None:
    given = {"words": {"synonyms": synonyms}, "masked": {"model": filler}, "translated": translators}[how.kind]
    found = made(RewriteSpec(how=how, k=3), {"corpus": corpus, **given}, tmp_path)
    own = dict(zip(*(lambda split: (split.keys, split.texts()))(read_split(corpus, "train")), strict=True))
    guard = read_guard(corpus)
    assert len(found) >= 0.6 * len(own)
    for key, several in found.items():
        plain = [normalized(text) for (text,) in [*several, own[key]]]
        assert len(set(plain)) == len(plain) <= 4
        assert not any(guard.blocks(texts) for texts in several)
    table = read_candidates(tmp_path)
    assert all(math.isnan(distance) for distance in table["distance"].to_pylist())
    order = list(dict.fromkeys(read_split(corpus, "train").keys))
    assert list(found) == [key for key in order if key in found]
    assert read_table_meta(tmp_path).rows == len(order)


def test_a_text_that_can_only_become_an_evaluated_one_gets_no_candidate(tmp_path: Path) -> None:
    names = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal")
    rows = [(f"the cast of {name}",) for name in names]
    corpus = corpus_of(ONE, tmp_path / "rows", rows, [(f"The CREW of {name}!",) for name in names[:4]])
    file = tmp_path / "synonyms.txt"
    file.write_text("cast\tcrew\n", "utf-8")
    (tmp_path / "out").mkdir()
    facts = rewrite(RewriteSpec(), {"corpus": corpus, "synonyms": file}, tmp_path / "out", inline())
    own = [text for (text,) in read_split(corpus, "train").texts()]
    expected = [[(text.replace("cast", "crew"),)] for text in own if text.split()[-1] not in names[:4]]
    assert list(texts_by_row(tmp_path / "out", "sentence").values()) == expected
    assert facts["guarded"] == len(own) - len(expected) > 0
    assert facts["rows_with_fewer"] == len(own)


@pytest.mark.parametrize("how", [Words(), Masked()])
def test_neither_the_order_of_rows_nor_who_does_them_decides_a_text(
    how: Words | Masked, synonyms: Path, filler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(f"The great film number {row} that the cast loved",) for row in range(24)]
    given = {"synonyms": synonyms} if how.kind == "words" else {"model": filler}
    one, other = (
        corpus_of(ONE, tmp_path / name, order, [("x",)] * 2) for name, order in (("a", rows), ("b", rows[::-1]))
    )
    first = made(RewriteSpec(how=how, k=2), {"corpus": one, **given}, tmp_path / "one")
    monkeypatch.setattr(stages.rewriting.rewrite, "ROWS_A_PART", 10)
    rewrite(
        RewriteSpec(how=how, k=2),
        {"corpus": other, **given},
        tmp_path / "other",
        Backwards(Resources(workers=3), RecordingListener()),
    )
    assert read_table_meta(tmp_path / "other").parts == 2
    assert texts_by_row(tmp_path / "other", "sentence") == first
    another = made(RewriteSpec(how=how, k=2, seed=1), {"corpus": one, **given}, tmp_path / "another")
    assert another != first


def test_a_cut_run_goes_on_from_its_finished_parts(
    corpus: Path, synonyms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages.rewriting.rewrite, "ROWS_A_PART", 4)
    inputs, heard = {"corpus": corpus, "synonyms": synonyms}, RecordingListener()
    first = rewrite(RewriteSpec(k=2), inputs, tmp_path, inline(heard))
    (expected,) = heard.expected
    assert heard.done == expected == 2 * read_table_meta(tmp_path).rows
    parts = sorted(tmp_path.glob("candidates-*.parquet"))
    whole = [part.read_bytes() for part in parts]
    parts[1].unlink()
    (tmp_path / "candidates.json").unlink()
    heard = RecordingListener()
    assert rewrite(RewriteSpec(k=2), inputs, tmp_path, inline(heard)) == first
    assert [part.read_bytes() for part in parts] == whole
    assert (heard.expected, heard.done) == ([8], 8)
    assert not list((tmp_path / "scratch").iterdir())


def test_a_part_that_was_interrupted_goes_on_from_the_rows_that_were_rewritten(
    corpus: Path, synonyms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"corpus": corpus, "synonyms": synonyms}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = rewrite(RewriteSpec(k=2), inputs, tmp_path / "whole", inline())
    monkeypatch.setattr(stages.rewriting.rewrite, "ROWS_AT_ONCE", 3)
    calls: list[int] = []
    rewritten = stages.rewriting.rewrite.rewritten

    def counted(rows: Sequence[RewriteRow], *more: Any) -> Iterator[Any]:
        if len(calls) == 2:
            calls.append(0)
            raise Interrupted
        calls.append(len(rows))
        return rewritten(rows, *more)

    monkeypatch.setattr(stages.rewriting.rewrite, "rewritten", counted)
    with pytest.raises(Interrupted):
        rewrite(RewriteSpec(k=2), inputs, tmp_path / "cut", inline())
    assert calls == [3, 3, 0]
    listener = RecordingListener()
    assert rewrite(RewriteSpec(k=2), inputs, tmp_path / "cut", inline(listener)) == whole
    assert sum(calls) == whole["rows"], "no row was rewritten twice"
    assert listener.restored and listener.done + listener.restored == listener.expected[0]
    files = [{path.name: path.read_bytes() for path in (tmp_path / one).glob("*.*")} for one in ("whole", "cut")]
    assert files[0] == files[1]


# --- pairs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "changed"),
    [
        ("first", [(True, False)] * 2),
        ("second", [(False, True)] * 2),
        ("either", [(True, False), (False, True)]),
        ("both", [(True, True)] * 2),
    ],
)
def test_of_a_pair_the_named_sides_are_rewritten(
    sides: str, changed: list[tuple[bool, bool]], pairs: Path, synonyms: Path, tmp_path: Path
) -> None:
    spec = RewriteSpec.model_validate({"how": Words(share=1.0), "k": 2, "sides": sides})
    found = made(spec, {"corpus": pairs, "synonyms": synonyms}, tmp_path)
    split = read_split(pairs, "train")
    assert len(found) == len(split)
    for key, own in zip(split.keys, split.texts(), strict=True):
        sides_of = [(texts[0] != own[0], texts[1] != own[1]) for texts in found[key]]
        assert sides_of == changed


def test_a_text_that_is_evaluated_on_is_not_kept_beside_a_rewritten_one(synonyms: Path, tmp_path: Path) -> None:
    rows = [("a great film", "kept") if row % 2 else ("a great story", f"kept {row}") for row in range(30)]
    corpus = corpus_of(TWO, tmp_path / "rows", rows, [("Kept!", "x"), ("y", "z")])
    found = made(RewriteSpec(k=1), {"corpus": corpus, "synonyms": synonyms}, tmp_path / "out")
    assert found
    assert all(texts[1] != "kept" for several in found.values() for texts in several)
    assert "drawn" in read_table_meta(tmp_path / "out").facts


@pytest.mark.parametrize("sides", ["second", "either", "both"])
def test_a_single_text_has_no_other_side(sides: str, corpus: Path, synonyms: Path, tmp_path: Path) -> None:
    spec = RewriteSpec.model_validate({"sides": sides})
    with pytest.raises(ValueError, match=rf"^sides: {sides}, but a row of one is a single text; use first$"):
        rewrite(spec, {"corpus": corpus, "synonyms": synonyms}, tmp_path, inline())


# --- words ------------------------------------------------------------------------------------------------


def test_words_are_replaced_with_the_given_probability_by_each_synonym_alike() -> None:
    text = " ".join(["film", "and", "great"] * 4000)
    words = [word.text for word in words_of(replace_words(text, 0.4, lambda word: SYNONYMS.get(word, ()), 3))]
    assert words[1::3] == ["and"] * 4000
    for place, word in ((0, "film"), (2, "great")):
        counts = Counter(words[place::3])
        assert 1 - counts.pop(word) / 4000 == pytest.approx(0.4, abs=0.03)
        assert set(counts) == set(SYNONYMS[word])
        assert [count / 4000 for count in counts.values()] == pytest.approx([0.4 / len(counts)] * len(counts), abs=0.03)


def test_every_replaced_word_is_a_synonym_in_the_case_of_the_word(corpus: Path, synonyms: Path, tmp_path: Path) -> None:
    found = made(RewriteSpec(k=3), {"corpus": corpus, "synonyms": synonyms}, tmp_path)
    split = read_split(corpus, "train")
    seen = set()
    for key, (own,) in zip(split.keys, split.texts(), strict=True):
        for (text,) in found.get(key, []):
            for old, new in zip(words_of(own), words_of(text), strict=True):
                if old.text != new.text:
                    assert new.text.lower() in SYNONYMS[old.text.lower()]
                    assert (old.text.isupper(), old.text.istitle()) == (new.text.isupper(), new.text.istitle())
                    seen.add(old.text)
    assert seen & {"FILM"} and seen & {"film", "story", "dull", "great"}


def test_the_nearest_words_are_those_of_the_embedding_table(tmp_path: Path) -> None:
    """Against NumPy in float64, over words that the tokenizer leaves whole."""
    directory = write_tiny_model(tmp_path, layers=1, width=16)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    weights = AutoModel.from_pretrained(directory).get_input_embeddings().weight.detach().double().numpy()
    whole = {word: token for word, token in tokenizer.get_vocab().items() if word.isalpha()}
    whole = {word: token for word, token in whole.items() if tokenizer.tokenize(word) == [word]}
    names = sorted(whole)
    vectors = weights[[whole[word] for word in names]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = NearestWords(directory, 15, "cpu")
    for word in ("film", "great", "the", "zone"):
        order = np.argsort(-(vectors @ vectors[names.index(word)]))
        nearest = [names[place] for place in order if names[place] != word][:15]
        assert list(table.alternatives(word)) == list(table.alternatives(word.upper())) == nearest
    assert table.alternatives("unbelievablenonsense") == table.alternatives("##s") == table.alternatives("[MASK]") == ()


def test_a_model_replaces_words_by_their_neighbours_and_leaves_words_of_several_tokens(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path, layers=1, width=16)
    table = NearestWords(directory, 15, "cpu")
    text = "The storyline overstays unwatchably"
    several = [len(AutoTokenizer.from_pretrained(directory).tokenize(word.text)) > 1 for word in words_of(text)]
    assert True in several and False in several
    seen = set()
    for seed in range(60):
        new = replace_words(text, 0.9, table.alternatives, seed)
        for old, word, pieces in zip(words_of(text), words_of(new), several, strict=True):
            assert word.text == old.text or (not pieces and word.text.lower() in table.alternatives(old.text))
            seen.add(word.text != old.text)
    assert seen == {True, False}


def test_words_need_a_table(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither synonyms nor model is given; give one of them"):
        rewrite(RewriteSpec(), {"corpus": corpus}, tmp_path, inline())


# --- masked -----------------------------------------------------------------------------------------------


def test_masked_words_become_one_of_the_likeliest_others_at_their_mask(filler: Path) -> None:
    """Against one forward a text, without padding, and the vocabulary's own spelling."""
    rewriter, tokenizer = MaskFiller(filler, 0.4, 5, "cpu"), AutoTokenizer.from_pretrained(filler)
    model = AutoModelForMaskedLM.from_pretrained(filler).eval()
    words = {token: word for word, token in tokenizer.get_vocab().items() if word.isalpha()}
    texts = ["the film was great and the unwatchably long story dull", "A cast", "we loved it, all of us, in 1999!"] * 8
    changed = total = 0
    for seed, (text, new) in enumerate(zip(texts, rewriter(texts, range(len(texts))), strict=True)):
        pairs = list(zip(words_of(text), words_of(new), strict=True))
        total, hidden = total + len(pairs), [(old, now) for old, now in pairs if old.text != now.text]
        changed += len(hidden)
        masked = text
        for old, _ in reversed(hidden):
            masked = masked[: old.start] + "[MASK]" + masked[old.end :]
        inputs = tokenizer(masked, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
        assert len(logits) == len(hidden), seed
        for scores, (old, now) in zip(logits, hidden, strict=True):
            order = [words[token] for token in scores.argsort(descending=True).tolist() if token in words]
            whole = (word for word in order if word != old.text.lower() and tokenizer.tokenize(word) == [word])
            assert now.text.lower() in [next(whole) for _ in range(5)]
    assert changed / total == pytest.approx(0.4, abs=0.12)


def test_what_the_model_cannot_see_and_a_text_with_a_mask_in_it_stay(filler: Path) -> None:
    rewriter = MaskFiller(filler, 1.0, 5, "cpu")
    long = "film " * 60
    new, same = rewriter([long, "the [MASK] film"], [1, 2])
    replaced = [word.text != "film" for word in words_of(new)]
    assert replaced == [True] * 36 + [False] * 24  # of 40 positions 2 are left free, 2 are special tokens
    assert same == "the [MASK] film"


def test_an_encoder_without_a_head_cannot_fill_masks(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    inputs = {"corpus": corpus, "model": encoder}
    with pytest.raises(
        ValueError, match=r"^model: .* lacks cls\.predictions\.\S+ and \d more weights of a masked lang.*$"
    ):
        rewrite(RewriteSpec(how=Masked()), inputs, tmp_path, inline())


# --- translated -------------------------------------------------------------------------------------------


def test_a_token_is_drawn_as_often_as_its_softmax_among_the_likeliest_says() -> None:
    scores = torch.tensor([[0.5, -torch.inf, 2.0, 1.0, -1.0, 1.5]])
    drawn = SampledTokens([7], 3, 2.0)
    counts = Counter(int(drawn(torch.zeros(1, 1), scores).argmax()) for _ in range(6000))
    weights = {token: math.exp(float(scores[0, token]) / 2.0) for token in (2, 5, 3)}
    assert set(counts) == set(weights)
    for token, weight in weights.items():
        assert counts[token] / 6000 == pytest.approx(weight / sum(weights.values()), abs=0.025)


def test_a_text_is_translated_alike_whatever_is_translated_beside_it(translators: dict[str, Path]) -> None:
    translator = Translator(translators["there"], "there", 10, 1.0, 12, "cpu")
    texts = ["the film was great", "the story", "the music was dull number weak flat", "poor"] * 3
    together = translator(texts, range(12))
    assert [translator([text], [seed])[0] for seed, text in enumerate(texts)] == together
    assert len(set(together)) > 4
    assert translator(texts, range(12, 24)) != together


def test_a_model_that_would_search_by_beams_is_sampled_all_the_same(
    translators: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(translators["there"], tmp_path / "there")
    stated = json.loads((folder / "generation_config.json").read_text("utf-8"))
    beams = {**stated, "num_beams": 4, "early_stopping": True, "max_length": 40, "bad_words_ids": [[3]]}
    (folder / "generation_config.json").write_text(json.dumps(beams), "utf-8")
    texts, one = ["the film was great", "the story was poor"] * 8, Translator(folder, "there", 10, 1.0, 12, "cpu")
    found = one(texts, range(16))
    assert len(set(found)) > 8
    plain = Translator(translators["there"], "there", 10, 1.0, 12, "cpu")(texts, range(16))
    assert any(VOCABULARY[3] in text.split() for text in plain)
    assert not any(VOCABULARY[3] in text.split() for text in found)


def test_a_model_of_the_marian_family_with_its_sentence_pieces_translates(tmp_path: Path) -> None:
    texts = ["the film was great", "the cast was dull"]
    translator = Translator(write_marian(tmp_path), "there", 10, 1.0, 12, "cpu")
    found = translator(texts, range(2))
    assert len(found) == 2 and found != texts
    assert found == translator(texts, range(2))


def test_both_directions_are_asked(corpus: Path, translators: dict[str, Path], tmp_path: Path) -> None:
    inputs = {"corpus": corpus, "there": translators["there"]}
    with pytest.raises(ValueError, match="translated, but back is not given; give a model directory for it"):
        rewrite(RewriteSpec(how=Translated()), inputs, tmp_path / "none", inline())
    spec = RewriteSpec(how=Translated(max_length=8), k=2)
    one = made(spec, {"corpus": corpus, **translators}, tmp_path / "one")
    swapped = {"there": translators["back"], "back": translators["there"]}
    assert one != made(spec, {"corpus": corpus, **swapped}, tmp_path / "swapped")
    assert one == made(spec, {"corpus": corpus, **translators}, tmp_path / "again")


def test_a_model_that_does_not_translate_is_refused(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    inputs = {"corpus": corpus, "there": encoder, "back": encoder}
    with pytest.raises(ValueError, match=r"^there: .* holds no translation model that loads \(.*\)$"):
        rewrite(RewriteSpec(how=Translated()), inputs, tmp_path, inline())


def test_what_workers_are_sent_pickles(corpus: Path) -> None:
    sent = RewriteJob(RewriteSpec(how=Masked()), {"corpus": corpus, "model": corpus}, ("sentence",), corpus)
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert pickle.loads(pickle.dumps(open_rewriter)) is open_rewriter


# --- the pin ----------------------------------------------------------------------------------------------


def test_the_output_is_pinned_to_its_version(corpus: Path, synonyms: Path, tmp_path: Path) -> None:
    rewrite(RewriteSpec(k=3), {"corpus": corpus, "synonyms": synonyms}, tmp_path, inline())
    table = read_candidates(tmp_path)
    told = repr([table[name].to_pylist() for name in ("row_key", "rank", "candidate_key", "sentence")])
    assert (RewriteSpec.version, hashlib.sha256(told.encode()).hexdigest()[:16]) == (1, "a17177306ae69c66")
