"""Classification heads: the first token's state or the mean over all tokens, on disk, in a cut and in plain
transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from stages.models.architectures import READS_FIRST_TOKEN, READS_OTHER_STATES, WITHOUT_TOKEN_STATES
from stages.models.config_fields import with_defaults
from stages.models.heads.kinds import (
    ENCODER_TYPE,
    MEAN_HEAD,
    POOLING_VALUES,
    check_head,
    head_of,
    loads_with,
)
from stages.models.heads.mean_head import mean_head_class
from stages.models.label_order import label_order
from stages.models.language_models import load_model
from stages.models.loading import build, load, quieten
from stages.models.parameters import parameter_bound
from stages.models.positions import position_limit
from stages.models.shape import Shape, config_of, shape_of
from stages.models.trial import problem
from stages.models.weights_header import check_shapes, weight_shapes
from stages.specs.student import Cut, Fresh, Head, Pretrained
from stages.specs.tasks import Task

THREE = Task(name="t", text=("text",), labels=("a", "b", "c"))
TWO = Task(name="t", text=("text",), labels=("no", "yes"))

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.3,
}
SPECIAL: dict[str, dict[str, object]] = {
    "albert": {"embedding_size": 8},
    "bert": {},
    "deberta-v2": {},
    "distilbert": {},
    "electra": {"embedding_size": 8},
    "modernbert": {"pad_token_id": 0, "initializer_cutoff_factor": 9.0},
    "mpnet": {},
    "roberta": {},
    "squeezebert": {"embedding_size": 16},
}
OTHERS: dict[str, dict[str, object]] = {
    "convbert": {"embedding_size": 16},
    "deberta": {},
    "gpt2": {"pad_token_id": 0},
    "longformer": {"attention_window": 4},
    "opt": {"word_embed_proj_dim": 8, "ffn_dim": 24, "pad_token_id": 0},
    "qwen2_moe": {"num_experts": 2, "num_experts_per_tok": 1, "num_key_value_heads": 2, "pad_token_id": 0},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "xlm": {},
}
OWN_CLASS = [name for name in SPECIAL if name not in POOLING_VALUES]
LAYERS = [name for name in OWN_CLASS if name != "albert"]  # whose layers share their weights
IDS = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
MASK = torch.ones_like(IDS).index_fill(0, torch.tensor([1]), 0)
MASK[1, :4] = 1


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for each architecture: an encoder without a head."""
    quieten()
    home = tmp_path_factory.mktemp("encoders")
    for name, special in SPECIAL.items():
        torch.manual_seed(1)
        AutoModel.from_config(AutoConfig.for_model(name, **{**SIZES, **special})).save_pretrained(home / name)
    return home


@pytest.fixture(scope="module")
def saved(encoders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoders, each with a mean head of three outputs."""
    home = tmp_path_factory.mktemp("mean")
    for name in SPECIAL:
        torch.manual_seed(2)
        build(Pretrained(head="mean"), encoders / name, THREE).save_pretrained(home / name)
    return home


def outputs(model: PreTrainedModel, ids: torch.Tensor = IDS, mask: torch.Tensor = MASK) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).logits


def weights(model: PreTrainedModel, part: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if part in name}


# --- what it computes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN_CLASS)
def test_a_mean_head_is_linear_in_the_mean_of_the_states_of_the_tokens_that_are_not_padding(
    saved: Path, name: str
) -> None:
    model = load(saved / name).eval()
    with torch.no_grad():
        states = model.base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state.double().numpy()
    mask = MASK.double().numpy()[:, :, None]
    means = (states * mask).sum(1) / mask.sum(1)
    weight, bias = (
        part.detach().double().numpy() for part in (model.mean_classifier.weight, model.mean_classifier.bias)
    )
    np.testing.assert_allclose(outputs(model).numpy(), means @ weight.T + bias, rtol=1e-5, atol=1e-5)


def test_modernbert_with_a_mean_head_averages_by_its_own_configuration(saved: Path) -> None:
    assert config_of(saved / "modernbert")["classifier_pooling"] == "mean"
    plain = AutoModelForSequenceClassification.from_pretrained(saved / "modernbert")
    model = load(saved / "modernbert")
    assert torch.equal(outputs(plain), outputs(model))
    pooled: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _module, given: pooled.append(given[0]))
    with torch.no_grad():
        states = model.eval().base_model(input_ids=IDS, attention_mask=MASK).last_hidden_state
    outputs(model)
    mask = MASK[:, :, None].float()
    torch.testing.assert_close(pooled[0], (states * mask).sum(1) / mask.sum(1))


@pytest.mark.parametrize("name", SPECIAL)
def test_padding_does_not_change_the_logits_of_a_mean_head(saved: Path, name: str) -> None:
    model = load(saved / name)
    alone = outputs(model, IDS[1:2, :4], MASK[1:2, :4])
    torch.testing.assert_close(outputs(model)[1:2], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SPECIAL)
def test_every_parameter_of_a_model_with_a_mean_head_has_a_gradient(encoders: Path, name: str) -> None:
    """Workers that train together would wait for one that has none."""
    model = build(Pretrained(head="mean"), encoders / name, THREE).train()
    model(input_ids=IDS, attention_mask=MASK).logits.sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_train_with_a_mean_head(name: str) -> None:
    """Longformer has weights for global attention, Qwen's experts are chosen for each token, and OPT projects its last
    states to another width."""
    model = mean_head_class(name)(AutoConfig.for_model(name, **{**SIZES, **OTHERS[name]})).train()
    model(input_ids=IDS, attention_mask=MASK).logits.sum().backward()
    unused = [name for name, one in model.named_parameters() if one.requires_grad and one.grad is None]
    assert unused == []


@pytest.mark.parametrize("name", [*SPECIAL, *OTHERS])
def test_the_first_token_is_read_by_the_heads_that_are_listed_so_and_by_no_other(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(name, **{**SIZES, **SPECIAL.get(name, {}), **OTHERS.get(name, {})})
    ).eval()
    states: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, found: Any) -> None:
        found.last_hidden_state.retain_grad()
        states.append(found.last_hidden_state)

    model.base_model.register_forward_hook(keep)
    model(input_ids=IDS).logits.sum().backward()
    assert states[0].grad is not None
    read = states[0].grad.abs().sum((0, 2)).nonzero().flatten().tolist()
    assert read == [0 if head_of({"model_type": name}) == "cls" else IDS.shape[1] - 1]


@pytest.mark.parametrize("name", OWN_CLASS)
def test_a_mean_head_gives_hidden_states_attention_maps_and_a_loss(saved: Path, name: str) -> None:
    model = load(saved / name).eval()
    model.set_attn_implementation("eager")
    labels = torch.tensor([0, 1, 2])
    found = model(input_ids=IDS, attention_mask=MASK, labels=labels, output_hidden_states=True, output_attentions=True)
    assert len(found.hidden_states) == 4
    assert [tuple(one.shape) for one in found.attentions] == [(3, 2, 9, 9)] * 3
    torch.testing.assert_close(found.loss, torch.nn.functional.cross_entropy(found.logits, labels))


# --- where its weights come from --------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN_CLASS)
def test_the_weights_of_an_encoder_are_kept_and_only_the_mean_head_is_new(encoders: Path, name: str) -> None:
    plain = AutoModel.from_pretrained(encoders / name)
    model = build(Pretrained(head="mean"), encoders / name, THREE)
    found = model.base_model.state_dict()
    assert {*model.state_dict()} == {f"{model.base_model_prefix}.{key}" for key in found} | {
        "mean_classifier.weight",
        "mean_classifier.bias",
    }
    assert not any("pooler" in key for key in found)
    assert all(torch.equal(plain.state_dict()[key], value) for key, value in found.items())


@pytest.mark.parametrize("name", SPECIAL)
def test_a_saved_mean_head_loads_again_bit_for_bit(encoders: Path, name: str, tmp_path: Path) -> None:
    model = build(Pretrained(head="mean"), encoders / name, THREE)
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert type(again) is type(model)
    assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    assert torch.equal(outputs(again), outputs(model))


def test_a_mean_head_whose_weights_are_in_several_files_or_under_the_usual_name_loads_alike(
    saved: Path, tmp_path: Path
) -> None:
    """At first, mean heads were saved under transformers' usual name."""
    model = load(saved / "bert")
    model.save_pretrained(tmp_path / "usual", variant=None)
    assert (tmp_path / "usual" / "model.safetensors").exists()
    model.save_pretrained(tmp_path / "several", max_shard_size="10KB")
    assert len(list((tmp_path / "several").glob("model.mean_head-*.safetensors"))) > 1
    for folder in (tmp_path / "usual", tmp_path / "several"):
        assert weight_shapes(folder) == weight_shapes(saved / "bert")
        assert torch.equal(outputs(load(folder)), outputs(model))
        assert build(Cut(layers=(0,)), folder, THREE).config.num_hidden_layers == 1
        load_model(AutoModel, folder, "model", lambda key: "pooler" not in key)


@pytest.mark.parametrize("name", LAYERS)
def test_a_cut_keeps_a_mean_head_and_a_head_of_another_kind_is_new(saved: Path, name: str, tmp_path: Path) -> None:
    whole = load(saved / name)
    same = build(Cut(layers=(0, 2)), saved / name, THREE)
    assert torch.equal(same.mean_classifier.weight, whole.mean_classifier.weight)
    same.save_pretrained(tmp_path)
    assert torch.equal(outputs(load(tmp_path)), outputs(same))
    turned = build(Cut(layers=(0, 2), label_order=(2, 0, 1)), saved / name, THREE)
    assert torch.equal(outputs(turned), outputs(same)[:, [2, 0, 1]])
    other = build(Cut(layers=(0, 2), head="cls"), saved / name, THREE)
    assert type(other).__name__ == type(whole).__name__.replace("Mean", "")
    assert other.config.model_type == name


@pytest.mark.parametrize("head", ["cls", "mean"])
def test_the_weights_of_one_kind_of_head_never_become_those_of_the_other(
    encoders: Path, head: Head, tmp_path: Path
) -> None:
    other: Head = "mean" if head == "cls" else "cls"
    build(Pretrained(head=head), encoders / "bert", THREE).save_pretrained(tmp_path)
    heads = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        heads.append(weights(build(Pretrained(head=other), tmp_path, THREE), "classifier.weight"))
    assert not any(torch.equal(value, heads[1][key]) for key, value in heads[0].items())


def test_a_mean_head_of_another_size_is_replaced_and_a_lack_of_weights_is_refused(saved: Path, tmp_path: Path) -> None:
    assert outputs(build(Pretrained(), saved / "bert", TWO)).shape == (3, 2)
    model = load(saved / "bert")
    model.save_pretrained(tmp_path, state_dict=weights(model, "bert."))
    with pytest.raises(ValueError, match=r"the weights lack mean_classifier\.bias"):
        load(tmp_path)


def test_random_weights_have_the_head_that_is_chosen(encoders: Path, saved: Path) -> None:
    assert "Mean" not in type(build(Fresh(), encoders / "bert", THREE)).__name__
    assert "Mean" in type(build(Fresh(head="mean"), encoders / "bert", THREE)).__name__
    assert "Mean" in type(build(Fresh(), saved / "bert", THREE)).__name__
    assert build(Fresh(head="mean"), encoders / "modernbert", THREE).config.classifier_pooling == "mean"
    assert problem(Fresh(changes=(("num_hidden_layers", 1),), head="mean"), saved / "bert", THREE) is None
    assert problem(Fresh(changes=(("num_hiden_layers", 1),)), saved / "bert", THREE) is not None


def test_a_mean_heads_encoder_loads_as_any_other_for_vectors_of_texts(saved: Path) -> None:
    found = load_model(AutoModel, saved / "bert", "model", lambda key: "pooler" not in key)
    whole = load(saved / "bert").base_model
    with torch.no_grad():
        states = [one.eval()(input_ids=IDS, attention_mask=MASK).last_hidden_state for one in (found, whole)]
    assert torch.equal(*states)


# --- what planning reads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN_CLASS)
def test_planning_reads_a_mean_head_as_its_encoder(saved: Path, encoders: Path, name: str) -> None:
    written = json.loads((saved / name / "config.json").read_text("utf-8"))
    assert (written["model_type"], written[ENCODER_TYPE]) == (MEAN_HEAD, name)
    config, plain = config_of(saved / name), config_of(encoders / name)
    assert config["model_type"] == name
    assert shape_of(config, name) == shape_of(plain, name) == Shape(3, 16, 2)
    assert position_limit(config) == position_limit(plain)
    assert parameter_bound(with_defaults(config)) == parameter_bound(with_defaults(plain))
    check_shapes(weight_shapes(saved / name), config, name)
    assert label_order(config, THREE, ("c", "a", "b")) == (1, 2, 0)
    assert head_of(config) == "mean" and head_of(plain) == "cls"
    assert loads_with(name, "mean") == "stillhouse.load_model"


def test_a_mean_head_whose_file_names_no_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": MEAN_HEAD}), "utf-8")
    with pytest.raises(ValueError, match=r"model_type: stillhouse-mean-head, but no encoder_type"):
        config_of(tmp_path)


def test_a_head_that_an_architecture_cannot_have_is_refused() -> None:
    for model_type in ("t5", "bart", "funnel"):
        with pytest.raises(ValueError, match=rf"^head: mean, but {model_type} .*; leave head out"):
            check_head(model_type, "mean")
    for model_type in ("gpt2", "qwen2", "xlnet", "t5"):
        with pytest.raises(ValueError, match=rf"^head: cls, but the classification head of {model_type} does not"):
            check_head(model_type, "cls")
    for model_type in ("gpt2", "qwen2", "bert", "modernbert"):
        check_head(model_type, "mean")
    with pytest.raises(
        ValueError, match=r"^head: mean, but newer is not known here to have one state for each token; "
    ):
        check_head("newer", "mean")


def test_every_architecture_of_transformers_with_a_classifier_is_in_exactly_one_table_of_heads() -> None:
    """A new version of transformers fails this until its further architectures have been looked at."""
    tables = [
        name
        for table in (POOLING_VALUES, READS_FIRST_TOKEN, READS_OTHER_STATES, WITHOUT_TOKEN_STATES)
        for name in table
    ]
    assert sorted(tables) == sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)
