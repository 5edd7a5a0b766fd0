"""Depth and width of a model, from only its configuration."""

import json
from pathlib import Path

import pytest

from stages.models.shape import Shape, config_of, shape_of, started_shape
from stages.specs.student import Cut, Fresh, Pretrained


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": 6, "hidden_size": 48, "num_labels": 2},
        {"n_layers": 6, "dim": 48, "hidden_dim": 96},
        {"num_layers": 6, "d_model": 48, "d_ff": 96},
    ],
)
def test_depth_and_width_are_found_under_the_names_that_models_use(config: dict[str, object]) -> None:
    assert shape_of(config, "here") == Shape(6, 48)


def test_the_shape_is_that_of_the_model_that_transformers_saved(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, ElectraConfig, RobertaConfig

    RobertaConfig(num_hidden_layers=3, hidden_size=24, num_attention_heads=2).save_pretrained(tmp_path / "roberta")
    DistilBertConfig(n_layers=5, dim=16, n_heads=2).save_pretrained(tmp_path / "distilbert")
    ElectraConfig(num_hidden_layers=2, hidden_size=8, embedding_size=4).save_pretrained(tmp_path / "electra")
    found = [shape_of(config_of(tmp_path / name), name) for name in ("roberta", "distilbert", "electra")]
    assert found == [Shape(3, 24, 2), Shape(5, 16, 2), Shape(2, 8, 4)]


def test_heads_that_a_configuration_leaves_out_are_the_architectures_own_number() -> None:
    given = {"num_hidden_layers": 6, "hidden_size": 48}
    assert shape_of({"model_type": "bert", **given}, "here").heads == 12
    assert shape_of({"model_type": "bert", "num_attention_heads": 4, **given}, "here").heads == 4


def test_a_configuration_without_depth_is_refused_naming_the_model() -> None:
    with pytest.raises(ValueError, match=r"^my/model: config\.json names none of num_hidden_layers, n_layers"):
        shape_of({"hidden_size": 4}, "my/model")
    with pytest.raises(ValueError, match=r"^my/model: config\.json names none of hidden_size, dim"):
        shape_of({"num_hidden_layers": 4, "hidden_size": "wide"}, "my/model")


def test_a_student_has_the_shape_that_its_start_gives_it() -> None:
    given = Shape(12, 768)
    assert started_shape(Pretrained(), given) == given
    assert started_shape(Cut(layers=(0, 5, 11)), given) == Shape(3, 768)
    assert started_shape(Fresh(), given) == given
    assert started_shape(Fresh(changes=(("num_hidden_layers", 2), ("hidden_size", 128))), given) == Shape(2, 128)
    assert started_shape(Fresh(changes=(("dim", 64), ("n_layers", 3), ("vocab_size", 9))), given) == Shape(3, 64)
    assert started_shape(Fresh(changes=(("n_layers", 3), ("num_hidden_layers", 3))), given) == Shape(3, 768)


def test_the_configuration_is_the_models_own_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 3}), "utf-8")
    assert config_of(tmp_path) == {"hidden_size": 3}
