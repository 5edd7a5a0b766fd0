"""TinyBERT's augmentation: candidates of each word from the whole text, and variants that draw from them."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rewriters import texts_by_row, write_filler
from tiny import packaged_model
from training_setups import inline, write_corpus
from transformers import AutoModelForMaskedLM, AutoTokenizer

from stages.corpus.leakage import normalized
from stages.corpus.reader import read_split
from stages.rewriting import tinybert, vector_file
from stages.rewriting.rewrite import rewrite
from stages.rewriting.stop_words import is_stop_word
from stages.rewriting.tinybert import WordByWordRewriter, varied
from stages.rewriting.vector_file import check_vectors
from stages.rewriting.word_vectors import nearest_in_file
from stages.rewriting.words import Word, words_of
from stages.specs.candidates import RewriteSpec, WordByWord
from stages.specs.tasks import Task

TEXT = "The unwatchably long film was not a great STORY, I say"
TWO = Task(name="two", text=("first", "second"), labels=("no", "yes"))
VECTORS = {
    "film": (1, 0),
    "movie": (0.9, 0.1),
    "Film": (1, 0.1),
    "drama": (0.7, 0.7),
    "dull": (0, 1),
    "unwatchably": (0.1, 1),
}

Opener = Callable[..., WordByWordRewriter]


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_filler(tmp_path_factory.mktemp("filler"))


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    lines = [f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in VECTORS.items()]
    (tmp_path / "vectors.txt").write_text("".join(lines), "utf-8")
    return tmp_path / "vectors.txt"


def opened(filler: Path, vectors: Path | None = None, share: float = 0.4, nearest: int = 5) -> WordByWordRewriter:
    return WordByWordRewriter(filler, vectors, share, nearest, "cpu")


def by_text(found: dict[Word, Sequence[str]]) -> dict[str, Sequence[str]]:
    return {word.text: several for word, several in found.items()}


def test_a_words_candidates_are_the_likeliest_others_at_its_mask_beside_the_original_text(filler: Path) -> None:
    """Against one pass for each word, without padding, and the vocabulary's own spelling."""
    tokenizer, model = AutoTokenizer.from_pretrained(filler), AutoModelForMaskedLM.from_pretrained(filler).eval()
    spelled = {token: word for word, token in tokenizer.get_vocab().items() if word.isalpha()}
    whole = {token: word for token, word in spelled.items() if tokenizer.tokenize(word) == [word]}
    texts = [TEXT, "a great cast"]
    found = opened(filler).candidates_of(texts)
    checked = 0
    for text in texts:
        for word, several in found[text].items():
            if len(tokenizer.tokenize(word.text)) > 1:
                continue
            masked = f"{text[: word.start]}[MASK]{text[word.end :]}"
            inputs = tokenizer(masked, text, return_tensors="pt")
            with torch.no_grad():
                (scores,) = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
            order = [whole[token] for token in scores.argsort(descending=True).tolist() if token in whole]
            assert list(several) == [other for other in order if other != word.text.lower()][:5], word
            checked += 1
    assert checked == 7


def test_stop_words_have_no_candidates_and_words_of_several_tokens_those_nearest_to_the_mean_of_their_pieces(
    filler: Path,
) -> None:
    found = by_text(opened(filler).candidates_of([TEXT])[TEXT])
    assert list(found) == ["unwatchably", "long", "film", "great", "STORY", "say"]
    tokenizer, model = AutoTokenizer.from_pretrained(filler), AutoModelForMaskedLM.from_pretrained(filler)
    table = model.get_input_embeddings().weight.detach().double().numpy()
    pieces = tokenizer("unwatchably", add_special_tokens=False)["input_ids"]
    assert len(pieces) > 1
    whole = {word: token for word, token in tokenizer.get_vocab().items() if word.isalpha()}
    whole = {word: token for word, token in whole.items() if tokenizer.tokenize(word) == [word]}
    names, mean = sorted(whole), table[pieces].mean(0)
    rows = table[[whole[name] for name in names]]
    cosines = rows @ mean / np.linalg.norm(rows, axis=1)
    assert list(found["unwatchably"]) == [names[place] for place in np.argsort(-cosines)][:5]


def test_with_a_file_of_vectors_words_of_several_tokens_have_its_nearest_words(filler: Path, vectors: Path) -> None:
    found = by_text(opened(filler, vectors).candidates_of([TEXT])[TEXT])
    assert found["unwatchably"] == ("dull", "drama", "movie", "Film", "film")
    plain = by_text(opened(filler).candidates_of([TEXT])[TEXT])
    assert {name: several for name, several in found.items() if name != "unwatchably"} == {
        name: several for name, several in plain.items() if name != "unwatchably"
    }
    unknown = opened(filler, vectors).candidates_of(["overstays"])["overstays"]
    assert by_text(unknown) == {"overstays": ()}


def test_the_nearest_words_of_a_file_leave_out_the_word_in_any_case(vectors: Path) -> None:
    nearest = nearest_in_file(vectors, 2)
    assert nearest("film") == nearest("FILM") == ("movie", "drama")
    assert nearest("absent") == ()


def test_each_word_is_replaced_with_the_given_probability_by_each_of_its_candidates_alike() -> None:
    text = " ".join(["film", "and", "Great"] * 3000)
    several = {"film": ("movie", "drama", "story"), "Great": ("fine", "grand")}
    candidates = {word: several[word.text] for word in words_of(text) if word.text in several}
    words = [word.text for word in words_of(varied(text, candidates, 0.4, 3))]
    assert words[1::3] == ["and"] * 3000
    for place, word in ((0, "film"), (2, "Great")):
        counts = Counter(words[place::3])
        assert 1 - counts.pop(word) / 3000 == pytest.approx(0.4, abs=0.03)
        assert set(counts) == {other if word.islower() else other.title() for other in several[word]}
        assert [n / 3000 for n in counts.values()] == pytest.approx([0.4 / len(counts)] * len(counts), abs=0.03)


def test_the_model_runs_once_for_all_variants_of_a_text(filler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewriter, passes = opened(filler), list[int]()
    likeliest = WordByWordRewriter._likeliest

    def counted(self: WordByWordRewriter, masked: Sequence[Any]) -> Any:
        passes.append(len(masked))
        return likeliest(self, masked)

    monkeypatch.setattr(WordByWordRewriter, "_likeliest", counted)
    variants = {text for seed in range(12) for text in rewriter([TEXT, TEXT], [seed, seed + 100])}
    assert len(variants) > 8 and passes == [5], "five words are single tokens and no stop words"
    monkeypatch.setattr(tinybert, "KEPT_TEXTS", 1)
    rewriter(["a fine film", "a dull film"], [0, 1])
    assert list(rewriter.candidates) == ["a dull film"]


def test_what_the_model_cannot_read_and_a_text_with_a_mask_in_it_stay(filler: Path) -> None:
    long = "film " * 60
    new, same = opened(filler, share=1.0)([long, "the [MASK] film"], [1, 2])
    replaced = [word.text != "film" for word in words_of(new)]
    assert 10 < sum(replaced) < 30 and replaced == sorted(replaced, reverse=True), "both texts are cut to 38 tokens"
    assert same == "the [MASK] film"


@pytest.mark.parametrize("word", ["the", "Not", "DON'T", "don\u2019t", "i"])
def test_stop_words_are_known_in_any_case(word: str) -> None:
    assert is_stop_word(word) and not is_stop_word("film")


def pair_corpus(home: Path) -> Path:
    rows = [(f"The film number {row} was great", f"a dull story, the cast of {row}") for row in range(10)]
    for split, some in (("train", rows), ("validation", [("one", "two")])):
        columns = {name: [row[place] for row in some] for place, name in enumerate(TWO.text)}
        table = pa.table({**columns, "label": pa.array([n % 2 for n in range(len(some))], pa.int64())})
        pq.write_table(table, home / f"{split}.parquet")
    return write_corpus(TWO, home, packaged_model(), home / "corpus")


def test_each_variant_of_a_pair_has_one_text_varied_and_the_other_as_it_is_in_the_row(
    filler: Path, tmp_path: Path
) -> None:
    corpus = pair_corpus(tmp_path)
    inputs = {"corpus": corpus, "model": filler}
    spec = RewriteSpec(how=WordByWord(), k=8, sides="either")
    (tmp_path / "out").mkdir()
    rewrite(spec, inputs, tmp_path / "out", inline())
    found, split = texts_by_row(tmp_path / "out", *TWO.text), read_split(corpus, "train")
    rewriter = opened(filler, nearest=15)
    for key, own in zip(split.keys, split.texts(), strict=True):
        assert len(found[key]) == 8
        plain = [tuple(map(normalized, texts)) for texts in [own, *found[key]]]
        assert len(set(plain)) == 9, "neither the row itself nor a variant is there twice"
        varied_sides = [(texts[0] != own[0], texts[1] != own[1]) for texts in found[key]]
        assert set(varied_sides) == {(True, False), (False, True)}
        allowed = rewriter.candidates_of(own)
        for texts in found[key]:
            for old, new in zip(own, texts, strict=True):
                for before, after in zip(words_of(old), words_of(new), strict=True):
                    assert after.text == before.text or after.text.lower() in allowed[old][before]


def test_a_second_run_makes_the_same_variants_and_another_seed_others(filler: Path, tmp_path: Path) -> None:
    corpus = pair_corpus(tmp_path)
    made = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(number)
        out.mkdir()
        spec = RewriteSpec(how=WordByWord(nearest=5), k=3, sides="second", seed=seed)
        rewrite(spec, {"corpus": corpus, "model": filler}, out, inline())
        made.append(texts_by_row(out, *TWO.text))
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "has no word vectors; write lines of a word and its numbers, with spaces"),
        ("film\n", "line 1: 'film'; write a word and its numbers, with spaces"),
        ("film 1 2\nmovie 1\n", "line 2: 'movie 1'; write a word and 2 numbers, with spaces"),
        ("film 1 2\nmovie 1 x\n", "line 2: 'movie 1 x'; write a word and 2 numbers, with spaces"),
    ],
)
def test_a_file_of_another_form_is_refused_naming_the_line(content: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(content, "utf-8")
    with pytest.raises(ValueError) as caught:
        check_vectors(file)
    assert str(caught.value) == f"{file}: {problem}"


def test_a_first_line_of_sizes_is_passed_over_and_only_the_first_words_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vectors.vec"
    file.write_text("4 2\nfilm 1 0\n. . . 1 1\nmovie 1 0.1\ndrama 1 0.05\n", "utf-8")
    assert nearest_in_file(file, 3)("film") == ("drama", "movie")
    monkeypatch.setattr(vector_file, "MOST_WORDS", 3)
    assert nearest_in_file(file, 3)("film") == ("movie",)
