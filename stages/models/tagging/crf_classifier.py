"""Token classifiers with a linear-chain CRF over the words of a sentence, as models of transformers' classes.

The model's logits at first pieces are the emissions of the CRF, ``model.crf``. A saved one has a ``model_type`` and a
file name of the weights of its own, so that transformers refuses the directory instead of leaving out the CRF, as it is
with this project's mean heads.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, PreTrainedConfig, PreTrainedModel

from stages.models.cutting import cut_layers
from stages.models.heads import CRF_HEAD, ENCODER_TYPE
from stages.models.loading import quieten
from stages.models.tagging.classifier import build_token_classifier
from stages.saved_weights import load_saved, weights_that_load
from stages.tagging.crf import LinearChainCrf

CRF_VARIANT = "crf"
"""The variant, as transformers calls it, under which its weights are saved: in ``model.crf.safetensors``."""

CONSTRAINED_FIELD = "crf_constrained"
"""The field of its configuration that says whether the CRF allows only sequences that are valid in IOB2."""


class CrfForTokenClassification(PreTrainedModel):
    """What a token classifier of transformers gets for a CRF; ``crf_class`` makes a class of both. ``forward`` is that
    of the token classifier: the CRF is over words, and a model's outputs are at word pieces."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.crf = LinearChainCrf(labels_of(config), bool(getattr(config, CONSTRAINED_FIELD, False)))

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, but for the names of the files with weights, which have the variant ``CRF_VARIANT``, and
        for the ``model_type`` in ``config.json``, which is ``CRF_HEAD``; that of the encoder becomes the field
        ``ENCODER_TYPE``."""
        super().save_pretrained(save_directory, *args, **{"variant": CRF_VARIANT, **kwargs})
        path = Path(save_directory) / "config.json"
        document = json.loads(path.read_text("utf-8"))
        document |= {ENCODER_TYPE: document["model_type"], "model_type": CRF_HEAD}
        path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", "utf-8")


def labels_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """The labels of a classifier's outputs, in their order."""
    names = cast(dict[int, str], config.id2label)
    return tuple(names[number] for number in range(len(names)))


@cache
def crf_class(model_type: str) -> type[CrfForTokenClassification]:
    """The class of token classifiers with a CRF, for an architecture of transformers."""
    plain = cast(type[PreTrainedModel], MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING[CONFIG_MAPPING[model_type]])
    name = plain.__name__.replace("ForToken", "CrfForToken")
    # transformers reads off the source of a class's module which implementations of attention the model may use.
    made = type(name, (CrfForTokenClassification, plain), {"__module__": plain.__module__})
    return cast(type[CrfForTokenClassification], made)


def has_crf(directory: Path) -> bool:
    """Whether the directory holds a token classifier with a CRF."""
    return bool(_document(directory).get("model_type") == CRF_HEAD)


def build_crf_classifier(
    directory: Path, labels: Sequence[str], layers: Sequence[int] | None = None, constrained: bool = False
) -> CrfForTokenClassification:
    """A token classifier with a CRF in float32 before its first step. It has the weights of ``build_token_classifier``
    and a CRF whose scores are 0; if the directory holds one with a CRF already, it has that model's own.

    Raises ValueError as ``build_token_classifier`` does, and where the model in the directory has a CRF for other
    labels, or one that is constrained where this is not to be, or the other way round.
    """
    if has_crf(directory):
        found = load_crf_classifier(directory)
        own = labels_of(found.config)
        if own != tuple(labels):
            raise ValueError(
                f"{directory}: its CRF is for the labels {', '.join(own)}, in this order; list the labels so, or start "
                "from a model without a CRF"
            )
        if bool(getattr(found.config, CONSTRAINED_FIELD)) != constrained:
            raise ValueError(
                f"{directory}: its CRF is {'free' if constrained else 'constrained'}; give the same, or start from a "
                "model without a CRF"
            )
        return found if layers is None else cast(CrfForTokenClassification, cut_layers(found, layers))
    plain = build_token_classifier(directory, labels, layers)
    setattr(plain.config, CONSTRAINED_FIELD, constrained)
    model = crf_class(plain.config.model_type)._from_config(plain.config, dtype=torch.float32)
    lacking, unknown = model.load_state_dict(plain.state_dict(), strict=False)
    assert not unknown, unknown
    assert all(name.startswith("crf.") for name in lacking), lacking
    return cast(CrfForTokenClassification, model.eval())


def load_crf_classifier(directory: Path) -> CrfForTokenClassification:
    """The finished token classifier with a CRF in ``directory``, in float32. Raises ValueError where there is none, and
    where weights cannot be read or are missing."""
    quieten()
    document = _document(directory)
    if document.get("model_type") != CRF_HEAD:
        raise ValueError(f"{directory} holds no token classifier with a CRF; give a directory in which one was saved")
    model_type = str(document.pop(ENCODER_TYPE))
    config = CONFIG_MAPPING[model_type].from_dict({**document, "model_type": model_type})
    with weights_that_load(directory, RuntimeError):
        model, lacking = load_saved(crf_class(model_type), directory, CRF_VARIANT, config=config)
    if lacking:
        raise ValueError(f"{directory}: the weights lack {lacking[0]}; give the model's own weights")
    return cast(CrfForTokenClassification, model)


def _document(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "config.json").read_text("utf-8"))
    return found
