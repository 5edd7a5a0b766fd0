"""The names under which BiLSTM students are saved, and how many parameters one has."""

from stages.specs.student import Bilstm

BILSTM = "stillhouse-bilstm"
"""The ``model_type`` in the ``config.json`` of a BiLSTM. The ``Auto`` classes of transformers refuse it."""

BILSTM_VARIANT = "bilstm"
"""The variant, as transformers calls it, under which its weights are saved: in ``model.bilstm.safetensors``. A concrete
class, such as ``BertForSequenceClassification``, does not read ``model_type``; it raises OSError because it finds no
weights."""


def bilstm_parameters(start: Bilstm, tokens: int, width: int, outputs: int, pair: bool) -> int:
    """The number of parameters of a BiLSTM with ``outputs`` logits. ``tokens`` is the size of the vocabulary, and
    ``width`` that of the word embeddings which it copies; random ones are as wide as ``start.width``. ``pair`` is
    whether it reads pairs of texts."""
    given = start.width if start.width is not None else width
    table = tokens * (width if start.embeddings == "copied" else given)
    projection = (width + 1) * given if start.embeddings == "copied" and start.width is not None else 0
    directions, lstm = 2, 0
    for layer in range(start.layers):
        read = given if layer == 0 else directions * start.hidden
        lstm += directions * 4 * start.hidden * (read + start.hidden + 2)
    features = feature_width(start.hidden, pair)
    return table + projection + lstm + (features + 1) * start.fc + (start.fc + 1) * outputs


def feature_width(hidden: int, pair: bool) -> int:
    """The width of what the fully connected layer reads: the last states of both directions, or for a pair [a; b;
    |a - b|; a * b] of those of its texts."""
    return 2 * hidden * (4 if pair else 1)
