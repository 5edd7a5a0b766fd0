"""Texts translated into another language and back, sampled. Runs in a worker.

``generate`` samples from torch's one generator, so that what a text becomes would depend on what is translated beside
it. Here each text has random numbers of its own: a token is the argmax of its log-probability over the temperature plus
Gumbel noise, which is to sample it (Gumbel 1954; Maddison et al. 2014). So a draw depends on its seed alone, save where
rounding, which a batch's padding changes in the last bits, moves a token across the border of the likeliest: batches
go by length and content, and results are pinned to that order.

Each direction is a model of its own, told nothing but the text: one that wants a prefix (T5) or a language (M2M) must
have it in its generation config.
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
"""Texts that are translated at once."""


class SampledTokens(LogitsProcessor):
    """Scores whose argmax is a token sampled among the ``nearest`` likeliest; a text's noise comes from its seed."""

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
    """One direction."""

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
    """A rewriter by two translators."""

    def __init__(self, there: Translator, back: Translator) -> None:
        self.there, self.back = there, back

    def __call__(self, texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        between = self.there(texts, [seed_of(seed, 0) for seed in seeds])
        return self.back(between, [seed_of(seed, 1) for seed in seeds])
