"""What is read of transformers' source code, against transformers itself."""

from dataclasses import fields

import pytest

from stages.models.config_fields import (
    UNKNOWN,
    activations,
    classifies_sequences,
    config_class,
    is_known,
    predicts_masked_words,
    with_defaults,
    writes_texts,
)

ENCODERS = ("albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie")
MORE = ("esm", "longformer", "luke", "modernbert", "mpnet", "roberta", "t5", "xlm-roberta", "xlnet")


@pytest.mark.parametrize("model_type", [*ENCODERS, *MORE])
def test_the_fields_and_defaults_are_those_of_the_imported_class(model_type: str) -> None:
    from transformers import CONFIG_MAPPING

    real, declared = CONFIG_MAPPING[model_type], config_class(model_type)
    assert declared is not None
    inherited = {one.name for one in fields(real.__mro__[1])}
    assert {one.name for one in fields(real)} - inherited <= declared.fields.keys()
    for one in fields(real):
        if one.name in declared.fields and declared.fields[one.name].default is not UNKNOWN:
            assert declared.fields[one.name].default == one.default
    assert declared.aliases == real.attribute_map


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "modernbert", "t5"])
def test_what_a_configuration_leaves_out_has_the_default_of_its_architecture(model_type: str) -> None:
    from transformers import AutoConfig

    declared = config_class(model_type)
    real = AutoConfig.for_model(model_type, num_hidden_layers=3).to_dict()
    found = with_defaults({"model_type": model_type}, {"num_hidden_layers": 3})
    assert declared is not None
    simple = [name for name in declared.fields if isinstance(found.get(name), int | float | str)]
    assert len(simple) > 10
    assert {name: found[name] for name in simple} == {name: real.get(name, found[name]) for name in simple}
    assert found[declared.own_name("num_hidden_layers")] == 3


def test_architectures_and_activations_are_those_that_transformers_knows() -> None:
    from transformers.activations import ACT2FN
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    assert activations() == set(ACT2FN)
    for name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        assert classifies_sequences(name)
        assert is_known(name)
    assert is_known("vit") and not classifies_sequences("vit")
    assert not is_known("brt") and not classifies_sequences("brt") and config_class("brt") is None


def test_the_architectures_that_predict_masked_words_or_write_texts_are_those_that_transformers_lists() -> None:
    from transformers.models.auto import modeling_auto

    known = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES | modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    for name in known:
        assert predicts_masked_words(name) == (name in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
        assert writes_texts(name) == (name in modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES)
    assert predicts_masked_words("bert") and not writes_texts("bert")
    assert writes_texts("t5") and not predicts_masked_words("t5")
