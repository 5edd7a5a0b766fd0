"""How many tokens a model reads, against models that read them; and how many parameters it has."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

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
    except (IndexError, RuntimeError, ValueError):  # Reformer has an error of its own
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


TABLES: dict[str, dict[str, object]] = {
    "albert": {},
    "bart": {},
    "bert": {},
    "big_bird": {},
    "bigbird_pegasus": {},
    "biogpt": {},
    "camembert": {},
    "canine": {},
    "convbert": {},
    "ctrl": {"n_positions": 20},
    "data2vec-text": {},
    "deberta": {},
    "deberta-v2": {},
    "distilbert": {},
    "electra": {},
    "ernie": {},
    "esm": {},
    "flaubert": {},
    "fnet": {},
    "gpt2": {"n_positions": 20},
    "gpt_bigcode": {"n_positions": 20},
    "ibert": {},
    "layoutlm": {},
    "longformer": {},
    "luke": {},
    "markuplm": {},
    "mbart": {},
    "megatron-bert": {},
    "mobilebert": {},
    "mpnet": {},
    "mra": {},
    "mvp": {},
    "nystromformer": {},
    "openai-gpt": {"n_positions": 20},
    "opt": {},
    "rembert": {},
    "roberta": {},
    "roberta-prelayernorm": {},
    "roc_bert": {},
    "roformer": {},
    "xlm": {},
    "xlm-roberta": {},
    "xlm-roberta-xl": {},
    "yoso": {},
    "gpt_neo": {"attention_types": [[["global"], 1]]},
    "gptj": {"n_positions": 20, "rotary_dim": 4},
    "plbart": {"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local"]},
    "squeezebert": {"embedding_size": 16},
    "xmod": {"default_language": "en_XX"},
}
"""Architectures whose models have a table of positions, and the fields that a small model of them needs."""

OTHER_TABLES = {"layoutlmv2", "layoutlmv3", "lilt", "perceiver", "tapas"}
"""As ``TABLES``, of models that read more than tokens."""


def test_only_architectures_with_a_table_of_positions_have_a_bound() -> None:
    """A bound on rotary embeddings would refuse rows that these models read."""
    bounded = {
        name
        for name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        if position_limit({**CONFIG_MAPPING[name]().to_dict(), "reset_position_index_per_cell": False}) is not None
    }
    assert bounded - {"gpt-sw3"} == TABLES.keys() | OTHER_TABLES  # GPT-SW3's class is GPT-2's


@pytest.mark.parametrize("model_type", sorted(TABLES))
def test_an_architecture_with_a_table_cannot_read_a_row_that_is_longer(model_type: str) -> None:
    given = {"intermediate_size": 16, "max_position_embeddings": 20} | TABLES[model_type]
    config = AutoConfig.for_model(model_type, **SIZES, **given)
    most = position_limit(config.to_dict())
    model = AutoModel.from_config(config).eval()
    assert most is not None and reads(model, most) and not reads(model, most + 1)


@pytest.mark.parametrize("model_type", ["esmc", "eurobert", "gte", "jina_embeddings_v3", "llama", "modernbert", "phi"])
def test_a_model_with_rotary_embeddings_reads_rows_longer_than_those_it_was_trained_with(model_type: str) -> None:
    config = AutoConfig.for_model(model_type, **SIZES, intermediate_size=16, max_position_embeddings=20)
    assert position_limit(config.to_dict()) is None
    assert position_limit({"model_type": model_type, "max_position_embeddings": 20}) is None
    assert reads(AutoModel.from_config(config).eval(), 50)


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "esm", "max_position_embeddings": 66, "pad_token_id": 1}, 64),
        ({"model_type": "esm", "max_position_embeddings": 66, "position_embedding_type": "rotary"}, None),
        ({"model_type": "bert", "max_position_embeddings": 64, "rope_theta": 10_000.0}, 64),
        ({"model_type": "unknown", "max_position_embeddings": 64, "rope_theta": 10_000.0}, None),
        ({"model_type": "unknown", "max_position_embeddings": 64}, 64),
        ({"model_type": "tapas", "max_position_embeddings": 64}, None),
        ({"model_type": "tapas", "max_position_embeddings": 64, "reset_position_index_per_cell": False}, 64),
    ],
)
def test_rotary_fields_count_only_where_the_architecture_reads_them(
    config: dict[str, object], most: int | None
) -> None:
    assert position_limit(config) == most


@pytest.mark.parametrize(
    ("config", "most"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 0}, 512),
        ({"model_type": "bert"}, 512),
        ({"model_type": "gpt2"}, 1024),
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
