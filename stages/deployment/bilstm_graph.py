"""A BiLSTM of this project as a module that PyTorch's exporter can trace.

PyTorch's packed sequences, by which the model reads rows of different lengths, have sizes that depend on values. Here
each direction is an LSTM of its own over whole rows: the tokens of a text come first, for the other direction in
reverse, and what follows the last of them is never read.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stages.models.bilstm.model import BilstmForSequenceClassification, texts_of_pairs


class ExportableBilstm(nn.Module):
    """The same logits [B, C] as ``model``, up to rounding, from its inputs by position, which have these ``names``."""

    def __init__(self, model: BilstmForSequenceClassification, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)
        lstm = model.encoder.lstm
        self.layers = nn.ModuleList(
            nn.ModuleList(_direction(lstm, f"_l{layer}{suffix}") for suffix in ("", "_reverse"))
            for layer in range(lstm.num_layers)
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """[B, C]: the logits."""
        given, model = dict(zip(self.names, inputs, strict=True)), self.model
        ids, mask = given["input_ids"], given["attention_mask"].bool()
        if model.config.pair:
            separator, leading = model.config.separator_id, model.config.leading_tokens
            masks = texts_of_pairs(mask, ids, given.get("token_type_ids"), separator, leading)
            one, two = (self._read(own, ids) for own in masks)
            states = torch.cat([one, two, (one - two).abs(), one * two], dim=-1)
        else:
            states = self._read(mask, ids)
        return cast(Tensor, model.classifier(torch.relu(model.fully_connected(states))))

    def _read(self, mask_BT: Tensor, ids_BT: Tensor) -> Tensor:
        """[B, 2H]: the last states of both directions for the tokens that the mask marks."""
        encoder, length = self.model.encoder, mask_BT.shape[1]
        counts_B1 = mask_BT.sum(1, keepdim=True).clamp(min=1)
        places_1T = torch.arange(length)[None, :]
        first_BT = torch.argsort(mask_BT.logical_not().to(torch.int64) * length + places_1T, dim=1)
        states = encoder.word_embeddings(torch.gather(ids_BT, 1, first_BT))
        states = states if encoder.projection is None else encoder.projection(states)
        mirrored_BT = torch.where(places_1T < counts_B1, counts_B1 - 1 - places_1T, places_1T)
        both: list[Tensor] = []
        for layer in self.layers:
            forwards, backwards = cast(nn.ModuleList, layer)
            there, back = forwards(states)[0], backwards(_taken(states, mirrored_BT))[0]
            both = [_taken(one, counts_B1 - 1)[:, 0] for one in (there, back)]
            states = torch.cat([there, _taken(back, mirrored_BT)], dim=-1)
        return torch.cat(both, dim=-1)


def _direction(lstm: nn.LSTM, name: str) -> nn.LSTM:
    """One direction of one layer of an LSTM; ``name`` is the end of the names of its weights."""
    width = getattr(lstm, f"weight_ih{name}").shape[1]
    found = nn.LSTM(width, lstm.hidden_size, batch_first=True)
    with torch.no_grad():
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(found, f"{part}_l0").copy_(getattr(lstm, f"{part}{name}"))
    return found


def _taken(states_BTH: Tensor, places_BP: Tensor) -> Tensor:
    """[B, P, H]: the states at these places of each row."""
    return torch.gather(states_BTH, 1, places_BP[:, :, None].expand(-1, -1, states_BTH.shape[2]))
