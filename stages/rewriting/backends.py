"""Opens the rewriter that a spec names, in a worker. Models are imported and loaded here."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

from cluster.resources import Worker
from stages.rewriting.draws import Rewriter
from stages.rewriting.substitution import Alternatives, replace_words
from stages.specs.candidates import Masked, Translated, WordByWord, Words

How = Words | Masked | WordByWord | Translated


def check_inputs(how: How, inputs: Mapping[str, Path]) -> None:
    """ValueError for an input that the rewriter needs and that is missing."""
    match how:
        case Words():
            if not {"synonyms", "model"} & inputs.keys():
                raise ValueError("rewrite: words, but neither synonyms nor model is given; give one of them")
        case Masked() | WordByWord():
            _require(("model",), how.kind, inputs)
        case Translated():
            _require(("there", "back"), "translated", inputs)
        case _:
            assert_never(how)


def _require(names: Sequence[str], kind: str, inputs: Mapping[str, Path]) -> None:
    for name in names:
        if name not in inputs:
            raise ValueError(f"rewrite: {kind}, but {name} is not given; give a model directory for it")


def open_rewriter_of(how: How, inputs: Mapping[str, Path], worker: Worker) -> Rewriter:
    """The rewriter, with its model or its synonyms loaded."""
    match how:
        case Words():
            return _words(how.share, _alternatives(how, inputs, worker))
        case Masked():
            _threads(worker)
            from stages.rewriting.masked_lm import MaskFiller

            return MaskFiller(inputs["model"], how.share, how.nearest, worker.device)
        case WordByWord():
            _threads(worker)
            from stages.rewriting.tinybert import WordByWordRewriter

            return WordByWordRewriter(inputs["model"], inputs.get("vectors"), how.share, how.nearest, worker.device)
        case Translated():
            _threads(worker)
            from stages.rewriting.back_translation import BackTranslator, Translator

            there, back = (
                Translator(inputs[name], name, how.nearest, how.temperature, how.max_length, worker.device)
                for name in ("there", "back")
            )
            return BackTranslator(there, back)
        case _:
            assert_never(how)


def _words(share: float, alternatives: Alternatives) -> Rewriter:
    def rewrite(texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return [replace_words(text, share, alternatives, seed) for text, seed in zip(texts, seeds, strict=True)]

    return rewrite


def _alternatives(how: Words, inputs: Mapping[str, Path], worker: Worker) -> Callable[[str], Sequence[str]]:
    if "synonyms" in inputs:
        from stages.rewriting.synonyms import read_synonyms

        synonyms = read_synonyms(inputs["synonyms"])
        return lambda word: synonyms.get(word.casefold(), ())
    _threads(worker)
    from stages.rewriting.embedding_neighbours import NearestWords

    return NearestWords(inputs["model"], how.nearest, worker.device).alternatives


def _threads(worker: Worker) -> None:
    import torch

    torch.set_num_threads(worker.threads)
