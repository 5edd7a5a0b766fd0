"""What planning refuses of models' configurations, and of the lengths of rows, before any work."""

import json
from pathlib import Path
from typing import Any

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model

from pipeline.errors import RequestError
from pipeline.graph.external.model_configs import check_changes, check_config, text_kinds


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    return write_plannable_assets(tmp_path)


BERT = {"model_type": "bert", "hidden_size": 768, "num_attention_heads": 12, "vocab_size": 30522, "type_vocab_size": 2}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"num_hidden_layers": "two"}, "num_hidden_layers: two, must be a whole number"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers: 2.0, must be a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True, must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: 0, must be at least 1"),
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers: 1000000, must be at most 1,000"),
        ({"num_hiden_layers": 2}, "num_hiden_layers: unknown field of bert; did you mean num_hidden_layers?"),
        ({"n_layers": 2}, "n_layers: unknown field of bert; did you mean "),
        (
            {"hidden_size": 7},
            "hidden_size: 7, but a width of 7 is not divisible by 12 attention heads; change hidden_size or "
            "num_attention_heads",
        ),
        ({"num_attention_heads": 5}, "num_attention_heads: 5, but a width of 768 is not divisible by 5 attention"),
        ({"hidden_size": 120_000, "num_hidden_layers": 24}, " a model of up to "),
        ({"intermediate_size": 10**9}, "intermediate_size: 1000000000, must be at most 10,000,000"),
        ({"intermediate_size": -1}, "intermediate_size: -1, must be at least 1"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob: 1.5, must be at most 1"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob: nan, must be finite"),
        ({"layer_norm_eps": 1}, "layer_norm_eps: 1, must be a number with a decimal point"),
        ({"hidden_act": "gleu"}, "hidden_act: gleu is no activation function; did you mean gelu?"),
        ({"use_cache": "no"}, "use_cache: no, must be true or false"),
        ({"vocab_size": 5}, "vocab_size: 5, but the tokenizer has 30522 tokens; give 30522 or more"),
        ({"pad_token_id": 40_000}, "pad_token_id: 40000, but the vocabulary ends at 30521"),
        ({"num_labels": 3}, "num_labels: follows from the task; leave it out"),
        ({"model_type": "roberta"}, "model_type: is no setting of a student; leave it out"),
    ],
)
def test_a_change_from_which_no_model_can_be_built_is_refused_by_name(
    changes: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as caught:
        check_changes(BERT, changes, tmp_path, pairs=False)
    found = str(caught.value)
    assert found.startswith(f"config:{problem}" if problem.startswith(" ") else f"config.{problem}")


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (BERT, {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "hidden_act": "relu"}),
        (BERT, {"classifier_dropout": 0.2, "hidden_dropout_prob": 0, "is_decoder": False, "pad_token_id": 0}),
        (BERT, {"vocab_size": 31_000, "chunk_size_feed_forward": 0}),
        ({"model_type": "distilbert"}, {"num_hidden_layers": 2, "dim": 48}),
        ({"model_type": "deberta-v2"}, {"max_relative_positions": -1, "type_vocab_size": 0}),
        ({"model_type": "modernbert"}, {"classifier_pooling": "mean", "pad_token_id": 0}),
        ({"model_type": "t5", "d_kv": 64}, {"num_heads": 3}),
        ({"model_type": "bert", "a_field_of_this_model": 0.5}, {"a_field_of_this_model": 1}),
    ],
)
def test_what_transformers_builds_is_accepted(config: dict[str, Any], changes: dict[str, Any], tmp_path: Path) -> None:
    check_changes(config, changes, tmp_path, pairs=False)


def test_layers_are_no_more_than_the_kinds_that_the_configuration_lists(tmp_path: Path) -> None:
    config = {"model_type": "modernbert", "layer_types": ["full_attention", "sliding_attention"]}
    check_changes(config, {"num_hidden_layers": 2}, tmp_path, pairs=False)
    with pytest.raises(ValueError) as caught:
        check_changes(config, {"num_hidden_layers": 3}, tmp_path, pairs=False)
    assert str(caught.value) == (
        "config.num_hidden_layers: 3, must be at most 2, the layers whose kinds config.json lists"
    )


def test_the_pooler_is_as_wide_as_the_model(tmp_path: Path) -> None:
    config = {"model_type": "deberta-v2", "hidden_size": 32, "num_attention_heads": 2, "pooler_hidden_size": 32}
    check_changes(config, {"hidden_size": 24, "pooler_hidden_size": 24}, tmp_path, pairs=False)
    with pytest.raises(ValueError, match=r"^config\.hidden_size: 24, but pooler_hidden_size is 32; change both to one"):
        check_changes(config, {"hidden_size": 24}, tmp_path, pairs=False)


def test_a_field_is_given_under_one_of_its_names_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        check_changes({"model_type": "distilbert"}, {"n_layers": 2, "num_hidden_layers": 3}, tmp_path, pairs=False)
    assert str(caught.value) == (
        "config.num_hidden_layers: is another name of n_layers, which is given too; leave one of them out"
    )


def test_the_tokens_of_a_vocabulary_are_counted_with_those_that_were_added(tmp_path: Path) -> None:
    tokenizer = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 8, "content": "[X]"}]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    check_changes(BERT, {"vocab_size": 9}, tmp_path, pairs=False)
    with pytest.raises(ValueError, match=r"^config\.vocab_size: 8, but the tokenizer has 9 tokens; give 9 or more$"):
        check_changes(BERT, {"vocab_size": 8}, tmp_path, pairs=False)


BERT_PAIRS = {
    "type": "TemplateProcessing",
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
}


def write_tokenizer(folder: Path, settings: dict[str, Any], processor: dict[str, Any] | None) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "tokenizer.json").write_text(json.dumps({"post_processor": processor}), "utf-8")


@pytest.mark.parametrize(
    ("settings", "processor"),
    [
        ({"tokenizer_class": "BertTokenizerFast"}, BERT_PAIRS),
        ({"tokenizer_class": "BertTokenizer"}, {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}),
        (
            {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids"]},
            {"type": "Sequence", "processors": [{"type": "ByteLevel"}, BERT_PAIRS]},
        ),
    ],
)
def test_a_student_of_text_pairs_needs_an_embedding_for_each_number_that_its_tokenizer_gives_them(
    settings: dict[str, Any], processor: dict[str, Any], tmp_path: Path
) -> None:
    write_tokenizer(tmp_path, settings, processor)
    with pytest.raises(ValueError) as caught:
        check_changes(BERT, {"type_vocab_size": 1}, tmp_path, pairs=True)
    assert str(caught.value) == (
        "config.type_vocab_size: 1, but the tokenizer marks the texts of a pair with 2 numbers; give 2 or more"
    )
    check_changes(BERT, {"type_vocab_size": 2}, tmp_path, pairs=True)
    check_changes({"model_type": "deberta-v2"}, {"type_vocab_size": 0}, tmp_path, pairs=True)


@pytest.mark.parametrize(
    ("settings", "processor", "pairs"),
    [
        ({"tokenizer_class": "BertTokenizer"}, BERT_PAIRS, False),
        ({"tokenizer_class": "RobertaTokenizer"}, {"type": "RobertaProcessing"}, True),
        ({"tokenizer_class": "XLMRobertaTokenizer"}, BERT_PAIRS, True),
        ({"tokenizer_class": "BertTokenizer", "model_input_names": ["input_ids"]}, BERT_PAIRS, True),
        ({"model_input_names": ["input_ids", "token_type_ids"]}, {"type": "RobertaProcessing"}, True),
        ({}, None, True),
    ],
)
def test_one_embedding_for_all_texts_is_enough_where_the_tokenizer_does_not_mark_them(
    settings: dict[str, Any], processor: dict[str, Any] | None, pairs: bool, tmp_path: Path
) -> None:
    """Whatever ``type_vocab_size`` config.json has: it is a field of the model, and does not tell of the tokenizer."""
    write_tokenizer(tmp_path, settings, processor)
    check_changes(BERT, {"type_vocab_size": 1}, tmp_path, pairs)


def test_the_numbers_that_are_read_off_a_tokenizers_files_are_those_that_it_gives(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertTokenizer, RobertaTokenizer

    words = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"))}
    BertTokenizer(vocab=words).save_pretrained(tmp_path / "bert")
    RobertaTokenizer(vocab=words, merges=[]).save_pretrained(tmp_path / "roberta")
    given = {name: AutoTokenizer.from_pretrained(tmp_path / name)("a", "b") for name in ("bert", "roberta")}
    assert text_kinds(tmp_path / "bert") == 1 + max(given["bert"]["token_type_ids"]) == 2
    assert text_kinds(tmp_path / "roberta") is None and "token_type_ids" not in given["roberta"]


def test_the_configurations_that_transformers_writes_are_accepted() -> None:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    for name in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        check_config(json.loads(CONFIG_MAPPING[name]().to_json_string()), name)


# --- in a recipe ----------------------------------------------------------------------------------


def test_a_fresh_student_is_refused_while_planning(assets: Path, tmp_path: Path) -> None:
    config = {"model": str(assets / "model"), "num_hiden_layers": 2}
    for changes in (
        {"student": {"label": "a", "config": config}},
        {"models": {"a": {"config": config, "method": "no-kd"}}},
    ):
        with pytest.raises(RequestError) as caught:
            graph_of(assets, tmp_path / "runs", **changes)
        assert str(caught.value) == (
            "student a: config.num_hiden_layers: unknown field of bert; did you mean num_hidden_layers?"
        )


def test_the_planned_size_of_a_fresh_student_is_that_of_its_own_configuration(assets: Path, tmp_path: Path) -> None:
    model = write_plannable_model(assets / "base", num_attention_heads=2, vocab_size=100, intermediate_size=64)
    students = [
        {"label": str(layers), "config": {"model": str(model), "num_hidden_layers": layers}} for layers in (1, 100)
    ]
    found = nodes_by_name(graph_of(assets, tmp_path / "runs", student=students)[1])
    small, large = (found[f"distil/no-kd/{layers}/0@tiny"].bytes.value for layers in (1, 100))
    each = 4 * 32 * 32 + 2 * 32 * 64
    assert small is not None and large is not None
    assert 99 * each * 4 < large - small < 99 * each * 4 * 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not a configuration"),
        ("[1, 2]", "not a configuration (it holds no block of fields)"),
        ('{"hidden_size": 32, "num_hidden_layers": 4}', "config.json names no model_type"),
        ('{"model_type": "brt"}', "config.json names the architecture brt, which transformers "),
        (
            '{"model_type": "bert", "hidden_size": 32, "num_hidden_layers": "two"}',
            'config.json has num_hidden_layers: "two", which must be a whole number; save the model with',
        ),
        ('{"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 4}', "has no vit with a classification head"),
    ],
)
def test_a_model_whose_config_json_cannot_be_read_is_refused_in_one_line(
    assets: Path, tmp_path: Path, text: str, problem: str
) -> None:
    model = write_plannable_model(assets / "odd")
    (model / "config.json").write_text(text, "utf-8")
    for changes in (
        {"student": {"label": "a", "model": str(model)}},
        {"teacher": {"model": str(model), "finetune": {}}},
    ):
        with pytest.raises(RequestError) as caught:
            graph_of(assets, tmp_path / "runs", **changes)
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_type", "problem"),
    [
        ("modernbert", "cut.layers: [2, 4], but in modernbert a layer depends on its place; keep layer 1 first"),
        ("albert", "cut.layers: the layers of albert share their weights; give the student as a model"),
    ],
)
def test_layers_that_cannot_be_cut_out_are_refused(assets: Path, tmp_path: Path, model_type: str, problem: str) -> None:
    model = write_plannable_model(assets / "odd", model_type=model_type)
    settings = {"teacher": {"model": str(model), "finetune": {}}, "student": {"label": "a", "cut": {"layers": [2, 4]}}}
    with pytest.raises(RequestError) as caught:
        graph_of(assets, tmp_path / "runs", **settings)
    assert str(caught.value) == f"student a: {problem}"


# --- the size of a batch --------------------------------------------------------------------------


def test_a_batch_that_holds_all_rows_is_warned_of_once(assets: Path, tmp_path: Path) -> None:
    settings = {
        "train": {"batch_size": 82, "max_length": 16},
        "teacher": {"model": str(assets / "model"), "finetune": {}},
    }
    graph = graph_of(assets, tmp_path / "runs", **settings)[1]
    assert graph.warnings == (
        "task tiny: train.batch_size: 82, but 81 rows are trained on, so that an epoch is one step; give a smaller "
        "batch",
    )
    fits = {**settings, "train": {"batch_size": 81, "max_length": 16}}
    assert graph_of(assets, tmp_path / "runs", **fits)[1].warnings == ()


# --- the length of rows ---------------------------------------------------------------------------


def test_rows_longer_than_the_teacher_reads_are_refused(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        graph_of(assets, tmp_path / "runs", train={"max_length": 1000})
    assert str(caught.value) == (
        f"task tiny: train.max_length: 1000, but the teacher {assets / 'model'} reads at most 512 tokens; give 512 or "
        "less"
    )


@pytest.mark.parametrize(
    ("start", "most"),
    [
        ({"model": "small"}, 64),
        ({"model": "roberta"}, 62),
        ({"config": {"model": "small", "max_position_embeddings": 32}}, 32),
    ],
)
def test_rows_longer_than_a_student_or_an_assistant_reads_are_refused(
    assets: Path, tmp_path: Path, start: dict[str, Any], most: int
) -> None:
    write_plannable_model(assets / "small", max_position_embeddings=64)
    write_plannable_model(assets / "roberta", model_type="roberta", max_position_embeddings=64)
    start = json.loads(json.dumps(start).replace('"model": "', f'"model": "{assets}/'))
    for changes in ({"student": {"label": "a", **start}}, {"models": {"a": {**start, "method": "no-kd"}}}):
        graph_of(assets, tmp_path / "runs", **changes, train={"max_length": most})
        with pytest.raises(RequestError) as caught:
            graph_of(assets, tmp_path / "runs", **changes, train={"max_length": most + 1})
        assert str(caught.value) == (
            f"task tiny: train.max_length: {most + 1}, but student a reads at most {most} tokens; give {most} or less"
        )
