"""Models are loaded, cut and initialised, and no weight becomes random without an error."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

from stages.models.cutting import cut_layers, depth, encoder_layers, reorder_outputs
from stages.models.forward import count_parameters, forward, pooled_state
from stages.models.loading import build, load, quieten
from stages.specs.student import Cut, Fresh, Pretrained
from stages.specs.tasks import Task

TASK = Task(name="t", text=("text",), labels=("no", "yes"))
THREE = Task(name="t", text=("text",), labels=("a", "b", "c"))
NUMBER = Task(name="t", text=("text",), metrics=("pearson",))

SIZES = {"vocab_size": 40, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
CONFIGS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZES, hidden_size=8, num_hidden_layers=4, initializer_range=0.3),
    "roberta": RobertaConfig(**SIZES, hidden_size=8, num_hidden_layers=4, type_vocab_size=1, initializer_range=0.3),
    "distilbert": DistilBertConfig(
        vocab_size=40, dim=8, n_layers=4, n_heads=2, hidden_dim=16, max_position_embeddings=32, initializer_range=0.3
    ),
    "electra": ElectraConfig(**SIZES, hidden_size=8, embedding_size=4, num_hidden_layers=4, initializer_range=0.3),
}
MODERN = ModernBertConfig(
    **SIZES, hidden_size=8, num_hidden_layers=4, pad_token_id=0, local_attention=4, initializer_cutoff_factor=9.0
)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = {
    "input_ids": torch.randint(3, 40, (3, 12), generator=GENERATOR),
    "attention_mask": torch.ones(3, 12, dtype=torch.int64),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for each model, each with a head of two outputs."""
    quieten()
    home = tmp_path_factory.mktemp("models")
    for name, config in {**CONFIGS, "modernbert": MODERN}.items():
        torch.manual_seed(1)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(home / name)
    return home


def altered(saved: Path, directory: Path, **config: object) -> Path:
    """A copy of the BERT with other entries in its ``config.json``."""
    shutil.copytree(saved / "bert", directory)
    document = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**document, **config}))
    return directory


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return forward(model.eval(), INPUTS)[0]


# --- cut --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("layers", [(0, 2), (3, 1), (1,)])
def test_a_cut_model_keeps_embeddings_chosen_layers_and_head_bit_for_bit(
    saved: Path, name: str, layers: tuple[int, ...]
) -> None:
    whole, student = load(saved / name), build(Cut(layers=layers), saved / name, TASK)
    holder, attribute = encoder_layers(student)
    inside = next(path for path, module in student.named_modules() if module is holder)
    stack = f"{inside}.{attribute}."
    expected = {key: value for key, value in whole.state_dict().items() if not key.startswith(stack)}
    for new, old in enumerate(layers):
        expected |= {
            key.replace(f"{stack}{old}.", f"{stack}{new}."): value
            for key, value in whole.state_dict().items()
            if key.startswith(f"{stack}{old}.")
        }
    found = student.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert depth(student.config) == len(layers)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_cut_model_has_the_same_logits_when_plain_transformers_loads_it(
    saved: Path, name: str, tmp_path: Path
) -> None:
    student = build(Cut(layers=(0, 3)), saved / name, TASK)
    student.save_pretrained(tmp_path)
    again, found = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert torch.equal(logits_of(again), logits_of(student))
    assert again.config.id2label == {0: "no", 1: "yes"}
    assert not torch.equal(logits_of(student), logits_of(load(saved / name))), "or the layers left out did nothing"


def test_kinds_of_layers_are_cut_with_the_layers(saved: Path, tmp_path: Path) -> None:
    """ModernBERT's layers are global or local by their place; its first has no norm, so it must stay first."""
    student = build(Cut(layers=(0, 2)), saved / "modernbert", TASK)
    assert student.config.layer_types == [MODERN.layer_types[0], MODERN.layer_types[2]]
    student.save_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(load(tmp_path)), logits_of(student), rtol=0, atol=0)
    with pytest.raises(
        ValueError, match=r"^cut.layers: \[2, 3\], but in modernbert a layer depends on its place; keep"
    ):
        build(Cut(layers=(1, 2)), saved / "modernbert", TASK)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_layer_that_the_model_lacks_is_refused_in_one_line(saved: Path, wrong: int) -> None:
    with pytest.raises(ValueError) as caught:
        cut_layers(load(saved / "bert"), (0, wrong))
    assert str(caught.value) == f"cut.layers: the model has no layer {wrong + 1}; its layers are 1 to 4"


def test_a_model_whose_layers_share_their_weights_cannot_be_cut() -> None:
    config = AlbertConfig(**SIZES, hidden_size=8, embedding_size=4, num_hidden_layers=4)
    with pytest.raises(ValueError, match=r"^albert: found no list of 4 layers; give the student as a model"):
        cut_layers(AutoModelForSequenceClassification.from_config(config), (0, 1))


@pytest.mark.parametrize("name", CONFIGS)
def test_output_i_of_a_reordered_head_is_the_earlier_output_order_i(saved: Path, name: str) -> None:
    torch.manual_seed(4)
    model = load(saved / name, THREE)
    before = logits_of(model)
    assert torch.equal(logits_of(reorder_outputs(model, (2, 0, 1))), before[:, [2, 0, 1]])
    assert torch.equal(logits_of(reorder_outputs(model, None)), before[:, [2, 0, 1]])


def test_a_student_cut_from_a_teacher_of_another_label_order_has_that_of_the_task(saved: Path) -> None:
    plain = build(Cut(layers=(0, 1)), saved / "bert", TASK)
    turned = build(Cut(layers=(0, 1), label_order=(1, 0)), saved / "bert", TASK)
    assert torch.equal(logits_of(turned), logits_of(plain)[:, [1, 0]])
    assert turned.config.id2label == {0: "no", 1: "yes"}


# --- fresh ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fresh_model_has_the_changed_configuration_and_weights_from_the_seed(saved: Path, name: str) -> None:
    start = Fresh(changes=(("num_hidden_layers", 2), ("hidden_size", 16)))
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(build(start, saved / name, THREE))
    assert depth(models[0].config) == 2 and models[0].config.hidden_size == 16
    assert logits_of(models[0]).shape == (3, 3)
    assert torch.equal(logits_of(models[0]), logits_of(models[1]))
    assert not torch.equal(logits_of(models[0]), logits_of(models[2]))


def test_a_fresh_model_needs_no_weights_where_its_configuration_is(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved / "bert" / "config.json", tmp_path)
    assert depth(build(Fresh(), tmp_path, TASK).config) == 4


def test_a_change_of_a_field_that_the_configuration_lacks_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"^config\.num_hiden_layers: the configuration of bert has no such field"):
        build(Fresh(changes=(("num_hiden_layers", 2),)), saved / "bert", TASK)


def test_a_fresh_model_of_fewer_layers_keeps_the_kinds_of_the_first(saved: Path, tmp_path: Path) -> None:
    student = build(Fresh(changes=(("num_hidden_layers", 2),)), saved / "modernbert", TASK)
    assert student.config.layer_types == MODERN.layer_types[:2]
    student.save_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(load(tmp_path)), logits_of(student), rtol=0, atol=0)


@pytest.mark.parametrize("start", [Fresh(), Pretrained(), Cut(layers=(0,))])
def test_a_student_is_float32_whatever_its_start_was_saved_in(
    saved: Path, start: Fresh | Pretrained | Cut, tmp_path: Path
) -> None:
    load(saved / "bert").half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in build(start, tmp_path, TASK).parameters()} == {torch.float32}


# --- load -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [TASK, THREE, NUMBER])
def test_a_loaded_model_gets_the_tasks_head_and_names(saved: Path, task: Task) -> None:
    model = build(Pretrained(), saved / "bert", task)
    assert logits_of(model).shape == (3, task.outputs)
    assert list(model.config.id2label.values()) == list(task.labels or ("score",))
    assert model.config.problem_type == ("regression" if task.regression else "single_label_classification")
    whole = load(saved / "bert")
    kept = {key for key, value in model.state_dict().items() if torch.equal(value, whole.state_dict()[key])}
    made = whole.state_dict().keys() - kept
    assert made == (set() if task is TASK else {"classifier.weight", "classifier.bias"})


def test_an_encoder_without_head_or_pooler_can_start_a_student_but_is_not_a_finished_model(
    saved: Path, tmp_path: Path
) -> None:
    """As sentence encoders are saved."""
    AutoModel.from_pretrained(saved / "bert", add_pooling_layer=False).save_pretrained(tmp_path)
    assert logits_of(load(tmp_path, TASK)).shape == (3, 2)
    with pytest.raises(ValueError, match=r"the weights lack bert\.pooler\.dense\.bias .* and 3 more"):
        load(tmp_path)


@pytest.mark.parametrize("task", [None, TASK], ids=["finished", "start"])
def test_weights_of_another_architecture_are_refused(saved: Path, task: Task | None, tmp_path: Path) -> None:
    directory = altered(saved, tmp_path / "mixed")
    shutil.copy(saved / "distilbert" / "model.safetensors", directory)
    with pytest.raises(ValueError, match=r"mixed: the weights lack bert\.embeddings.* give the model's own weights$"):
        load(directory, task)


@pytest.mark.parametrize("task", [None, TASK], ids=["finished", "start"])
@pytest.mark.parametrize("field", ["hidden_size", "vocab_size", "num_hidden_layers", "intermediate_size"])
def test_weights_of_another_shape_are_refused(saved: Path, field: str, task: Task | None, tmp_path: Path) -> None:
    """Otherwise the weights that do not fit would silently be random."""
    given = getattr(CONFIGS["bert"], field)
    with pytest.raises(ValueError, match="the weights lack bert") as caught:
        load(altered(saved, tmp_path / "other", **{field: 2 * given}), task)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", [None, TASK], ids=["finished", "start"])
def test_pickled_weights_are_refused(saved: Path, task: Task | None, tmp_path: Path) -> None:
    directory = altered(saved, tmp_path / "pickled")
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"pickled: no weights that load \(.*model\.safetensors") as caught:
        load(directory, task)
    assert "\n" not in str(caught.value)


def test_a_truncated_weights_file_is_refused(saved: Path, tmp_path: Path) -> None:
    directory = altered(saved, tmp_path / "broken")
    whole = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"broken: no weights that load \("):
        load(directory, TASK)


def test_a_finished_model_without_its_head_is_refused(saved: Path, tmp_path: Path) -> None:
    directory = altered(saved, tmp_path / "headless")
    weights = {
        key: value
        for key, value in load_file(directory / "model.safetensors").items()
        if not key.startswith("classifier")
    }
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"headless: the weights lack classifier\.bias"):
        load(directory)


# --- logits and states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_the_states_are_the_embeddings_and_those_after_each_layer(saved: Path, name: str) -> None:
    model = load(saved / name).eval()
    with torch.no_grad():
        logits, states, *_ = forward(model, {**INPUTS, "labels": torch.zeros(3)}, hidden=True)
        alone, none, *_ = forward(model, INPUTS)
    assert [state.shape for state in states] == [(3, 12, 8)] * 5
    assert torch.equal(logits, alone) and none == ()


def test_the_mean_is_over_a_rows_own_tokens_and_cls_is_its_first() -> None:
    states = torch.randn(2, 5, 3, generator=GENERATOR).half()
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]])
    expected = torch.stack([states[0, :2].float().mean(0), states[1].float().mean(0)])
    torch.testing.assert_close(pooled_state(states, mask, "mean"), expected)
    assert torch.equal(pooled_state(states, mask, "cls"), states[:, 0].float())


def test_parameters_are_counted_one_by_one(saved: Path) -> None:
    weights = load_file(saved / "bert" / "model.safetensors")
    assert count_parameters(load(saved / "bert")) == sum(value.numel() for value in weights.values())
