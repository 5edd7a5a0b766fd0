"""Rewrites texts by translating them into another language and back, with sampling. Runs in a worker.

Sampling in ``generate`` draws from torch's global generator, so the translation of a text would depend on the other
texts of its batch. Here each text has its own random numbers: the argmax over tokens of log-probability / temperature +
Gumbel noise is a sample of the token (Gumbel 1954; Maddison et al. 2014). A draw then depends on its seed alone, except
where the padding of a batch changes the last bits of a score and so which tokens are the likeliest. Batches are
therefore formed by length and content, whatever the order of the texts.

Each direction has its own model, whose input is the text alone: a model that needs a prefix (T5) or a language code
(M2M) must have it in its generation config.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, LogitsProcessor, LogitsProcessorList

from stages.models.language_models import load_any_tokenizer, load_model, max_tokens
from stages.specs.seeds import seed_of

TEXTS = 32
"""Texts in a batch."""


class SampledTokens(LogitsProcessor):
    """Turns scores into noisy scores whose argmax is a token sampled among the ``nearest`` likeliest ones. The noise of
    a text comes from its seed."""

    def __init__(self, seeds: Sequence[int], nearest: int, temperature: float) -> None:
        self.generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        self.nearest, self.temperature = nearest, temperature

    def __call__(self, input_ids: Tensor, scores_BV: Tensor) -> Tensor:  # noqa: ARG002
        most = min(self.nearest, scores_BV.shape[1])
        values_BK, tokens_BK = scores_BV.float().topk(most)
        uniform_BK = np.stack([generator.random(most) for generator in self.generators])
        noise_BK = -np.log(-np.log(np.clip(uniform_BK, 1e-300, 1 - 1e-16)))
        noisy_BK = values_BK.double() / self.temperature + torch.from_numpy(noise_BK).to(values_BK.device)
        drawn_BV = torch.full_like(scores_BV, -torch.inf)
        return drawn_BV.scatter(1, tokens_BK, noisy_BK.to(scores_BV.dtype))


class Translator:
    """A translation model for one direction. ``length`` bounds the tokens of a text and of its translation."""

    def __init__(self, directory: Path, name: str, nearest: int, temperature: float, length: int, device: str) -> None:
        self.model: Any = load_model(AutoModelForSeq2SeqLM, directory, name).to(device)
        self.tokenizer = load_any_tokenizer(directory, name)
        self.nearest, self.temperature, self.device = nearest, temperature, device
        self.length = min(length, max_tokens(self.model, self.tokenizer))

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        new = [""] * len(texts)
        order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), texts[row], seeds[row]))
        for start in range(0, len(order), TEXTS):
            rows = order[start : start + TEXTS]
            several = self._translated([texts[row] for row in rows], [seeds[row] for row in rows])
            for row, text in zip(rows, several, strict=True):
                new[row] = " ".join(text.split())
        return new

    @torch.inference_mode()
    def _translated(self, texts: list[str], seeds: Sequence[int]) -> list[str]:
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=self.length, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        tokens = self.model.generate(
            **inputs.to(self.device),
            max_new_tokens=self.length - 1,
            num_beams=1,
            do_sample=False,
            logits_processor=LogitsProcessorList([SampledTokens(seeds, self.nearest, self.temperature)]),
        )
        decoded: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return decoded


class BackTranslator:
    """A rewriter that translates ``there`` and ``back``."""

    def __init__(self, there: Translator, back: Translator) -> None:
        self.there, self.back = there, back

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        between = self.there(texts, [seed_of(seed, 0) for seed in seeds])
        return self.back(between, [seed_of(seed, 1) for seed in seeds])
