"""Masked language models: built from any encoder, and run so that tokens are predicted at chosen places only."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from stages.models.cutting import cut_layers
from stages.models.loading import kinds_of_layers, quieten, read_config, read_weights
from stages.specs.student import Bilstm, Cut, Fresh, Network, Pretrained, Start

TIED = "tie_word_embeddings"
"""The field of a configuration that says whether a model predicts tokens by its word embeddings."""

PROBE_LENGTH = 8
"""The tokens of a row on which it is tried whether a head predicts tokens one by one."""


@dataclass(frozen=True, slots=True)
class MaskedModelStart:
    """A masked language model before its first step. ``new_head``: the part that predicts tokens has random weights,
    but for the word embeddings."""

    model: PreTrainedModel
    new_head: bool


def build_masked_model(start: Start, directory: Path) -> MaskedModelStart:
    """The masked language model of the model in ``directory``, in float32. Seed torch before the call: the weights of a
    new head, and all weights of a ``Fresh`` start, come from torch's generator. Raises ValueError for a model that does
    not load, or that cannot be changed as ``start`` says."""
    quieten()
    match start:
        case Pretrained():
            return _load(directory)
        case Cut(layers=layers):
            found = _load(directory)
            return MaskedModelStart(cut_layers(found.model, layers), found.new_head)
        case Fresh(changes=changes):
            changed = dict(changes)
            config, _ = read_config(directory, {**changed, **kinds_of_layers(directory, changed)})
            return MaskedModelStart(_new_model(config), True)
        case Network():
            raise ValueError("start: a network for images predicts no tokens; start from an encoder")
        case Bilstm():
            raise ValueError("start: a BiLSTM predicts no masked tokens; start from an encoder")


def _new_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A model with random weights that predicts tokens by its word embeddings."""
    setattr(config, TIED, True)
    return cast(PreTrainedModel, AutoModelForMaskedLM.from_config(config, dtype=torch.float32))


def _load(directory: Path) -> MaskedModelStart:
    """The model in ``directory`` with the head that its weights have, or with a new one tied to its word embeddings.
    Raises ValueError if the weights cannot be read, or if some of the encoder are missing."""
    config, _ = read_config(directory, {})
    model, random = _with_head(directory, config)
    encoder = f"{model.base_model_prefix}."
    lacking = [name for name in random if name.startswith(encoder) and "pooler" not in name]
    if lacking:
        raise ValueError(
            f"{directory}: the weights lack {lacking[0]} in the shape that config.json gives it, and "
            f"{len(lacking) - 1} more; give the model's own weights"
        )
    new_head = any(not name.startswith(encoder) for name in random)
    if new_head and not getattr(config, TIED, True):
        setattr(config, TIED, True)
        model, _ = _with_head(directory, config)
    return MaskedModelStart(model, new_head)


def _with_head(directory: Path, config: PreTrainedConfig) -> tuple[PreTrainedModel, list[str]]:
    """The weights in ``directory`` as a masked language model of this configuration, and the names of those weights
    that are not there, which are random."""
    try:
        return read_weights(AutoModelForMaskedLM, directory, config=config)
    except (OSError, ValueError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{directory}: no masked language model that loads ({reason})") from error


class Prediction(NamedTuple):
    """What a masked language model gives at M places of a batch: its logits [M, V] over the vocabulary, and the states
    [M, H] of its last layer, from which it makes them."""

    logits: Tensor
    states: Tensor


class PlacePredictor(nn.Module):
    """A masked language model that predicts the tokens at some places of a batch only.

    Its head, which is as wide as the vocabulary, takes most of the time of a small model: for 15 % of the tokens it
    takes 15 % of that. So the states of all other places are left out between the encoder and the head. Where the head
    of an architecture does not predict each token from its own state, they are left out after the head.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._places: Tensor | None = None
        self._states: Tensor | None = None
        model.base_model.register_forward_hook(self._select)
        self.selects_states = True
        self.selects_states = self._predicts_from_own_states()

    def forward(self, inputs: Mapping[str, Tensor], places_M: Tensor) -> Prediction:
        """The prediction at ``places_M`` of the flattened batch [B, T] of ``inputs``."""
        self._places = places_M
        try:
            logits = self.model(**inputs).logits
            states_MH = self._states
        finally:
            self._places = self._states = None
        logits_MV = logits[0] if self.selects_states else logits.reshape(-1, logits.shape[-1])[places_M]
        assert states_MH is not None, "the hook has kept them"
        return Prediction(logits_MV, states_MH)

    def _select(self, _module: nn.Module, _arguments: Any, output: Any) -> Any:
        """Keep the encoder's states at the wanted places [M, H]. Returns its ``output`` with these in the place of all
        states [B, T, H], unless the head needs all."""
        if self._places is None:
            return output
        states_BTH = output[0]
        self._states = states_BTH.reshape(-1, states_BTH.shape[-1])[self._places]
        if not self.selects_states:
            return output
        chosen = self._states[None]
        if isinstance(output, tuple):
            return (chosen, *output[1:])
        output["last_hidden_state"] = chosen
        return output

    def _predicts_from_own_states(self) -> bool:
        """Whether the whole model predicts the same at some places of two rows as its head does from the states there
        alone. Draws no random number."""
        if self.model.base_model is self.model:
            return False
        training = self.model.training
        self.model.eval()
        size = cast(nn.Embedding, self.model.get_input_embeddings()).num_embeddings
        ids = torch.arange(2 * PROBE_LENGTH).reshape(2, PROBE_LENGTH) % size
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        places = torch.tensor([1, PROBE_LENGTH - 2, PROBE_LENGTH + 2])
        with torch.no_grad():
            whole_BTV = self.model(**inputs).logits
            try:
                chosen_MV = self(inputs, places).logits
            except (RuntimeError, IndexError, KeyError):  # a head that needs the shape of the batch
                return False
            finally:
                self.model.train(training)
        expected_MV = whole_BTV.reshape(-1, whole_BTV.shape[-1])[places]
        return chosen_MV.shape == expected_MV.shape and torch.allclose(chosen_MV, expected_MV, rtol=1e-3, atol=1e-4)
