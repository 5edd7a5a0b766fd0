"""Models that read tokens, or the word embeddings of tokens."""

from collections.abc import Mapping

from torch import Tensor, nn

from stages.corpus.examples.word_rows import FIRST_PIECES
from stages.models.adapters.protocol import ForwardOutputs
from stages.models.adapters.words import word_outputs
from stages.models.embeddings.inputs import embedded_inputs
from stages.models.embeddings.words import unwrapped

TOKENS_PER_PASS = {"cpu": 1024, "cuda": 65536}
"""Padded tokens of one forward pass, by kind of device; on a CPU, for each thread. The activations of more tokens do
not fit in a CPU's caches (measured: 30 % more rows a second than with 4,096 on one thread)."""


class TextAdapter:
    """Classifiers of transformers, and of this project, on ``input_ids`` or ``inputs_embeds``."""

    def outputs(self, model: nn.Module, inputs: Mapping[str, Tensor], hidden: bool) -> ForwardOutputs:
        """See ``Adapter.outputs``. ``states`` are [B, T, H], and the mask is that of the inputs. With ``first_pieces``
        [B, W], the logits are those of words (``stages.models.adapters.words``).

        ``inputs`` has tokens, ``input_ids`` [B, T], or the word embeddings of tokens, ``inputs_embeds`` [B, T, E],
        which ``stages.models.embeddings.words`` makes; the outputs for ``embed(model, input_ids)`` are those for
        ``input_ids``, bit for bit. Where both are given, the embeddings are read (``embedded_inputs``).
        ``attention_mask`` [B, T] and ``token_type_ids`` [B, T] are read where they are given.

        Raises ValueError for embeddings where the architecture does not take them.
        """
        result = model(**text_arguments(model, inputs), output_hidden_states=hidden)
        states, mask = tuple(result.hidden_states) if hidden else (), inputs.get("attention_mask")
        if FIRST_PIECES in inputs:
            return word_outputs(unwrapped(model), result.logits, inputs[FIRST_PIECES])._replace(
                states=states, mask=mask
            )
        return ForwardOutputs(result.logits, states, mask)

    def widths(self, model: nn.Module) -> tuple[int, ...]:
        """The hidden size, for each layer. A model without states of layers, such as a BiLSTM, has one all the same."""
        config = unwrapped(model).config
        return (int(config.hidden_size),) * (1 + int(getattr(config, "num_hidden_layers", 0)))

    def pass_cost(self, device: str, threads: int) -> int:
        """Padded tokens of one forward pass."""
        return tokens_per_pass(device, threads)


def text_arguments(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of ``model`` for tokens or embeddings."""
    if "inputs_embeds" in inputs:
        return embedded_inputs(model, inputs)
    return {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}


def tokens_per_pass(device: str, threads: int = 1) -> int:
    """Padded tokens of one forward pass on this device, before any lack of memory."""
    kind = device.split(":")[0]
    return TOKENS_PER_PASS[kind] * (threads if kind == "cpu" else 1)
