"""TinyBERT's augmentation: words replaced one by one, by what a masked language model expects in their place beside the
whole text. Runs in a worker.

After Jiao et al. 2020 (TinyBERT: Distilling BERT for Natural Language Understanding, Findings of EMNLP), algorithm 1:
each word of a text has M = 15 candidates, and a variant of the text replaces each word by one of its candidates with
probability p = 0.4. As in the released code, the masked language model reads a pair: the text with the one word masked,
and the text itself, so that the candidates fit what the text says; a word that is no single token has its nearest words
by word vectors instead; and stop words stay. A word's candidates depend on the text alone and not on the variant, so
they are computed once. Unlike in the code, the word itself is none of its candidates, candidates are whole words of
letters, and the two texts of a pair are varied separately, each beside the other as it is: the code leaves the last
variant of the first text beside all variants of the second.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from transformers import AutoModelForMaskedLM

from stages.corpus.tokenizer import load_tokenizer
from stages.models.language_models import load_model, max_tokens
from stages.models.masked.language_model import PlacePredictor
from stages.rewriting.stop_words import is_stop_word
from stages.rewriting.vocabulary import vocabulary_of
from stages.rewriting.word_vectors import nearest_by_pieces, nearest_in_file
from stages.rewriting.words import Word, cased_like, with_words, words_of

PASSES = 64
"""Masked words, each with a text of its own, in a batch of the model."""

KEPT_TEXTS = 2048
"""Texts whose candidates are kept, so that further variants of them need no model."""

Candidates = Mapping[Word, Sequence[str]]
"""A word of a text -> the words that may replace it, the likeliest first."""


class WordByWordRewriter:
    """Rewrites texts by a masked language model in ``directory``, a word at a time. ``share`` is the probability with
    which a word is replaced, ``nearest`` the number of its candidates, ``vectors`` a file of word vectors for words
    that are no single token; without it, such a word takes the mean of its pieces' embeddings in the model."""

    def __init__(self, directory: Path, vectors: Path | None, share: float, nearest: int, device: str) -> None:
        model: Any = load_model(AutoModelForMaskedLM, directory, "model").to(device)
        self.tokenizer = load_tokenizer(directory)
        if self.tokenizer.mask_token is None:
            raise ValueError(f"model: the tokenizer in {directory} has no mask token; give a masked language model")
        self.predictor = PlacePredictor(model).eval()
        self.vocabulary = vocabulary_of(self.tokenizer, model.config.vocab_size)
        self.ids = torch.tensor(self.vocabulary.ids, device=device)
        self.share, self.nearest, self.device = share, nearest, device
        self.most = max_tokens(model, self.tokenizer)
        self.nearest_words: Callable[[str], Sequence[str]] = (
            nearest_by_pieces(
                self.vocabulary.words,
                self.vocabulary.ids,
                model.get_input_embeddings().weight.detach().float().cpu().numpy(),
                self.tokenizer,
                nearest,
            )
            if vectors is None
            else nearest_in_file(vectors, nearest)
        )
        self.candidates: dict[str, Candidates] = {}

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        known = {text: self.candidates[text] for text in texts if text in self.candidates}
        found = {**known, **self.candidates_of([text for text in dict.fromkeys(texts) if text not in known])}
        self.candidates |= found
        for text in list(self.candidates)[:-KEPT_TEXTS]:
            del self.candidates[text]
        return [varied(text, found[text], self.share, seed) for text, seed in zip(texts, seeds, strict=True)]

    def candidates_of(self, texts: Sequence[str]) -> dict[str, Candidates]:
        """The candidates of each of these distinct texts' words but stop words, in the order of the words."""
        wanted = {text: [word for word in words_of(text) if not is_stop_word(word.text)] for text in texts}
        masked = [
            (text, word)
            for text, words in wanted.items()
            for word in words
            if self.vocabulary.place(word.text) is not None and self.tokenizer.mask_token not in text
        ]
        # By length and content, so that the same texts share a batch whatever their order.
        masked.sort(key=lambda one: (len(one[0]), one[0], one[1].start))
        predicted: dict[tuple[str, Word], Sequence[str]] = {}
        for start in range(0, len(masked), PASSES):
            several = masked[start : start + PASSES]
            predicted |= zip(several, self._likeliest(several), strict=True)
        return {
            text: {word: self._candidates(text, word, predicted) for word in words} for text, words in wanted.items()
        }

    def _candidates(self, text: str, word: Word, predicted: Mapping[tuple[str, Word], Sequence[str]]) -> Sequence[str]:
        if self.vocabulary.place(word.text) is None:
            return self.nearest_words(word.text)
        return predicted.get((text, word), ())

    @torch.inference_mode()
    def _likeliest(self, masked: Sequence[tuple[str, Word]]) -> list[Sequence[str]]:
        """For each (text, word), the likeliest other words in the place of the word; none where the model cannot read
        as far as the mask."""
        firsts = [with_words(text, {word: self.tokenizer.mask_token}) for text, word in masked]
        seconds = [text for text, _ in masked]
        inputs = self.tokenizer(
            firsts, seconds, padding=True, truncation="longest_first", max_length=self.most, return_tensors="pt"
        ).to(self.device)
        at_mask_BT = inputs["input_ids"] == self.tokenizer.mask_token_id
        reached = at_mask_BT.any(1).tolist()
        logits_MV = self.predictor(dict(inputs), at_mask_BT.flatten().nonzero()[:, 0]).logits
        logits_MW = logits_MV[:, self.ids].float()
        shown = [word for (_, word), is_there in zip(masked, reached, strict=True) if is_there]
        for row, word in enumerate(shown):
            logits_MW[row, self.vocabulary.places[word.text.casefold()]] = -torch.inf
        most = min(self.nearest, logits_MW.shape[1])
        values, places = (found.cpu().tolist() for found in logits_MW.topk(most))
        words = iter(
            tuple(self.vocabulary.words[place] for value, place in zip(*row, strict=True) if value > -torch.inf)
            for row in zip(values, places, strict=True)
        )
        return [next(words) if is_there else () for is_there in reached]


def varied(text: str, candidates: Candidates, share: float, seed: int) -> str:
    """The text with each word that has candidates replaced, with probability ``share``, by one of them, drawn
    uniformly, in the case of the word."""
    random = Random(seed)
    chosen: dict[Word, str] = {}
    for word, several in candidates.items():
        change, which = random.random(), random.random()
        if several and change < share:
            chosen[word] = cased_like(word.text, several[int(which * len(several))])
    return with_words(text, chosen)
