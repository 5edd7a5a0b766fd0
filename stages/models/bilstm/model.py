"""A bidirectional LSTM with a classification head, as Tang et al. 2019 distil BERT into ("Distilling Task-Specific
Knowledge from BERT into Simple Neural Networks")."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_outputs import SequenceClassifierOutput

from stages.models.bilstm.description import BILSTM, BILSTM_VARIANT, feature_width

RANDOM_EMBEDDINGS = 0.25
"""Random word embeddings are uniform between -0.25 and 0.25, about as long as those of word2vec (Kim 2014)."""


class BilstmConfig(PreTrainedConfig):
    """The configuration of a ``BilstmForSequenceClassification``.

    ``embedding_size`` is the width of the word embeddings. With ``projected_size``, a linear layer maps them to that
    width before the LSTM; None for no such layer. ``hidden_size`` is the width of a state of one direction, and
    ``lstm_layers`` the number of LSTM layers. ``fc_size`` is the width of the fully connected layer. ``pair``: the
    model reads pairs of texts; its tokenizer puts ``leading_tokens`` tokens before the first text, and the token
    ``separator_id`` after it. ``num_hidden_layers`` is 0: there are no layers whose states a method could match.
    """

    model_type = BILSTM

    vocab_size: int = 30522
    embedding_size: int = 300
    projected_size: int | None = None
    hidden_size: int = 150
    lstm_layers: int = 1
    num_hidden_layers: int = 0
    fc_size: int = 200
    dropout: float = 0.1
    pair: bool = False
    separator_id: int | None = None
    leading_tokens: int = 0


class BilstmEncoder(nn.Module):
    """Word embeddings, their projection if the configuration has one, and the LSTM."""

    def __init__(self, config: BilstmConfig) -> None:
        super().__init__()
        width = config.projected_size or config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, config.embedding_size)
        self.projection = nn.Linear(config.embedding_size, width) if config.projected_size else None
        self.dropout = nn.Dropout(config.dropout)
        between = config.dropout if config.lstm_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            width, config.hidden_size, config.lstm_layers, batch_first=True, dropout=between, bidirectional=True
        )

    def forward(self, words_NTE: Tensor, lengths_N: Tensor) -> Tensor:
        """[N, 2H] in float32: for each text the last states of both directions, from the embeddings of its words,
        which are the first ``lengths_N`` positions. Positions after them are not read, so that padding changes no bit
        of the result."""
        with torch.autocast(words_NTE.device.type, enabled=False):
            words_NTE = words_NTE.float()
            words_NTE = words_NTE if self.projection is None else self.projection(words_NTE)
            packed = pack_padded_sequence(
                self.dropout(words_NTE), lengths_N.cpu(), batch_first=True, enforce_sorted=False
            )
            _, (last, _) = self.lstm(packed)
            return torch.cat([last[-2], last[-1]], dim=-1)


class BilstmForSequenceClassification(PreTrainedModel):
    """The last states of a BiLSTM's two directions, a fully connected layer with ReLU, dropout, and a linear
    classifier.

    A row of one text is read as the tokenizer makes it. A pair is read siamese: the same LSTM reads each text, with
    the separator that ends it, and the fully connected layer reads [a; b; |a - b|; a * b]. There are no hidden states
    of layers to return.
    """

    config_class = BilstmConfig
    base_model_prefix = "encoder"

    def __init__(self, config: BilstmConfig) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        self.encoder = BilstmEncoder(config)
        self.fully_connected = nn.Linear(feature_width(config.hidden_size, config.pair), config.fc_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.fc_size, self.num_labels)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of word embeddings."""
        return self.encoder.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the table of word embeddings."""
        self.encoder.word_embeddings = cast(nn.Embedding, value)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """Logits [B, C], and a loss where there are labels. ``hidden_states`` is () whatever is requested.

        ``inputs_embeds`` [B, T, E] take the place of the word embeddings of ``input_ids`` [B, T]. Where both are given,
        the ids only show where the second text of a pair begins. Without ``attention_mask``, all tokens count. Raises
        ValueError without either input, and for a pair whose second text cannot be found.
        """
        values = input_ids if inputs_embeds is None else inputs_embeds
        if values is None:
            raise ValueError("input_ids: neither they nor inputs_embeds are given; give one of them")
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        masks = [mask]
        if self.config.pair:
            separator, leading = self.config.separator_id, self.config.leading_tokens
            masks = list(texts_of_pairs(mask, input_ids, token_type_ids, separator, leading))
        states = self._read(torch.cat(masks), values)
        if self.config.pair:
            one, two = states.chunk(2)
            states = torch.cat([one, two, (one - two).abs(), one * two], dim=-1)
        logits_BC = self.classifier(self.dropout(torch.relu(self.fully_connected(states))))
        return SequenceClassifierOutput(
            loss=None if labels is None else ForSequenceClassificationLoss(labels, logits_BC, self.config),
            logits=logits_BC,
            hidden_states=(),
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _read(self, mask_NT: Tensor, values: Tensor) -> Tensor:
        """[N, 2H]: the states of N texts. ``values`` are the tokens or embeddings of B rows, and text n has those of
        row n mod B that the mask marks. A row of padding alone is read as its first position. With
        ``torch.compile``, this part runs as it is: lengths decide the shapes."""
        lengths_N = mask_NT.sum(1).clamp(min=1)
        order_NT = mask_NT.logical_not().to(torch.int8).argsort(dim=1, stable=True)[:, : int(lengths_N.max())]
        rows_N1 = torch.arange(len(mask_NT), device=values.device)[:, None] % len(values)
        chosen = values[rows_N1, order_NT]
        words = chosen if values.ndim == 3 else self.encoder.word_embeddings(chosen)
        return cast(Tensor, self.encoder(words, lengths_N))

    def _init_weights(self, module: nn.Module) -> None:
        """As torch initialises linear layers and LSTMs, and random word embeddings by ``RANDOM_EMBEDDINGS``. Weights
        that were loaded are kept."""
        if isinstance(module, nn.Linear | nn.LSTM):
            fan = module.in_features if isinstance(module, nn.Linear) else module.hidden_size
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -(fan**-0.5), fan**-0.5)
        elif isinstance(module, nn.Embedding):
            init.uniform_(module.weight, -RANDOM_EMBEDDINGS, RANDOM_EMBEDDINGS)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, but for the names of the files with weights, which have the variant
        ``BILSTM_VARIANT``."""
        super().save_pretrained(save_directory, *args, **{"variant": BILSTM_VARIANT, **kwargs})


def texts_of_pairs(
    mask_BT: Tensor, input_ids: Tensor | None, token_type_ids: Tensor | None, separator: int | None, leading: int
) -> tuple[Tensor, Tensor]:
    """Two masks [B, T]: the tokens of the first text of each row and those of the second, each with the separator that
    ends it. The ``leading`` first tokens of a row, such as BERT's [CLS], belong to neither.

    The second text has the tokens of type 1. In a row without any, as with RoBERTa's tokenizer, it follows the first
    ``separator`` and those that come right after that. A text of no tokens is read as the last token of its row. Raises
    ValueError if there are neither types nor ids.
    """
    if token_type_ids is None and input_ids is None:
        raise ValueError(
            "token_type_ids: missing, and needed to find the second text of a pair; give them, or input_ids beside "
            "inputs_embeds"
        )
    places_BT = mask_BT.cumsum(1)
    body_BT = mask_BT & (places_BT > leading)
    first_BT, second_BT = body_BT, torch.zeros_like(mask_BT)
    if input_ids is not None and separator is not None:
        separators_BT = (input_ids == separator) & mask_BT
        after_BT = mask_BT & (separators_BT.cumsum(1) > separators_BT.int())
        first_BT = body_BT & ~after_BT
        second_BT = after_BT & ((after_BT & ~separators_BT).cumsum(1) > 0)
    if token_type_ids is not None:
        marked_BT = (token_type_ids == 1) & mask_BT
        has_types_B1 = marked_BT.any(1, keepdim=True)
        first_BT = _choice(has_types_B1, body_BT & (token_type_ids == 0), first_BT)
        second_BT = _choice(has_types_B1, marked_BT, second_BT)
    last_BT = mask_BT & (places_BT == mask_BT.sum(1, keepdim=True))
    first_BT = _choice(first_BT.any(1, keepdim=True), first_BT, last_BT)
    return first_BT, _choice(second_BT.any(1, keepdim=True), second_BT, last_BT)


def _choice(condition_B1: Tensor, one_BT: Tensor, other_BT: Tensor) -> Tensor:
    """``torch.where`` of boolean tensors, by operators that ONNX Runtime has for them."""
    return (condition_B1 & one_BT) | (~condition_B1 & other_BT)
