"""How many tokens a model reads, against models that read them; and how many parameters it has."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from stages.models.config_fields import with_defaults
from stages.models.forward import count_parameters
from stages.models.parameters import parameter_bound
from stages.models.positions import position_limit

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 1}
ABSOLUTE = ("albert", "bert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "mobilebert")
AFTER_PADDING = ("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "xlm-roberta")


def reads(model: torch.nn.Module, tokens: int) -> bool:
    ids = torch.full((2, tokens), 5)
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize(
    ("model_type", "most"), [*((name, 20) for name in ABSOLUTE), *((name, 18) for name in AFTER_PADDING)]
)
def test_a_model_reads_as_many_tokens_as_its_configuration_says_and_no_more(model_type: str, most: int) -> None:
    window = {"attention_window": 4} if model_type == "longformer" else {}
    config = AutoConfig.for_model(model_type, **SIZES, **window, max_position_embeddings=20)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    assert position_limit(config.to_dict()) == most
    assert reads(model, most)
    assert not reads(model, most + 1)


def test_a_model_without_absolute_positions_has_no_bound() -> None:
    config = AutoConfig.for_model("deberta-v2", **SIZES, relative_attention=True, position_biased_input=False)
    config.max_position_embeddings = 20
    assert position_limit(config.to_dict()) is None
    assert position_limit({"model_type": "t5", "n_positions": 512}) is None
    assert position_limit({"model_type": "nothing-known"}) is None


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 0}, 512),
        ({"model_type": "bert"}, 512),
        ({"model_type": "modernbert"}, 8192),
        ({"model_type": "distilbert", "max_position_embeddings": 64}, 64),
    ],
)
def test_what_the_file_leaves_out_has_the_default_of_the_architecture(config: dict[str, object], most: int) -> None:
    assert position_limit(config) == most


@pytest.mark.parametrize("model_type", sorted({*ABSOLUTE, *AFTER_PADDING, "modernbert"} - {"luke", "mobilebert"}))
@pytest.mark.parametrize("changes", [{}, {"num_hidden_layers": 30}, {"hidden_size": 240, "num_hidden_layers": 3}])
def test_the_bound_on_parameters_is_one_and_not_far_off(model_type: str, changes: dict[str, int]) -> None:
    config = AutoConfig.for_model(model_type, **changes)
    with torch.device("meta"):
        count = count_parameters(AutoModelForSequenceClassification.from_config(config))
    most = parameter_bound(with_defaults({"model_type": model_type}, changes))
    assert count <= most
    assert most <= 2 * count or model_type == "albert"  # whose layers share their weights
