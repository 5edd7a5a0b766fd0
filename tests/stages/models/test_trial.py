"""Students that are built and run on trial, before any work."""

from pathlib import Path

import pytest
from tiny import packaged_model
from transformers import AutoConfig, AutoTokenizer

from stages.models.trial import answer, problem
from stages.specs.student import Fresh
from stages.specs.tasks import Task

TASK = Task(name="tiny", text=("sentence",), label="label", labels=("bad", "good"))
PAIRS = Task(name="pairs", text=("one", "other"), label="label", labels=("bad", "good"))
SIZES = {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "pad_token_id": 1}


def write_config(folder: Path, model_type: str) -> Path:
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2)
    config = AutoConfig.for_model(model_type, **SIZES, **special)
    config.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "modernbert", "t5"])
def test_a_configuration_that_can_be_built_and_run_has_no_problem(model_type: str, tmp_path: Path) -> None:
    folder = write_config(tmp_path, model_type)
    assert problem(Fresh(changes=(("num_hidden_layers", 1),)), folder, TASK) is None


def test_weights_whose_shapes_do_not_fit_each_other_are_found(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "modernbert")  # whose rotary positions need heads of even width
    assert "size of tensor" in str(problem(Fresh(changes=(("hidden_size", 6),)), folder, TASK))


def test_a_configuration_that_the_architecture_refuses_is_found(tmp_path: Path) -> None:
    folder = write_config(tmp_path, "bert")
    found = problem(Fresh(changes=(("hidden_size", 33),)), folder, TASK)
    assert found is not None and "hidden size (33)" in found and "\n" not in found


def test_a_large_model_is_built_without_weights(tmp_path: Path) -> None:
    large = Fresh(changes=(("hidden_size", 20_000), ("intermediate_size", 80_000)))
    assert problem(large, write_config(tmp_path, "bert"), TASK) is None


def test_a_model_that_has_no_vocabulary_has_no_problem(tmp_path: Path) -> None:
    AutoConfig.for_model("canine", hidden_size=32, num_attention_heads=2).save_pretrained(tmp_path)
    assert not hasattr(AutoConfig.from_pretrained(tmp_path), "vocab_size"), "CANINE reads characters"
    assert problem(Fresh(changes=(("num_hidden_layers", 1),)), tmp_path, TASK) is None


@pytest.mark.parametrize(
    ("kinds", "found"),
    [(1, "type_vocab_size is 1, but its tokenizer marks the texts of a pair with 2 numbers"), (2, None)],
)
def test_a_student_of_pairs_has_an_embedding_for_each_number_that_its_tokenizer_gives(
    kinds: int, found: str | None, tmp_path: Path
) -> None:
    folder = write_config(tmp_path, "bert")
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(folder)
    one_kind = Fresh(changes=(("type_vocab_size", kinds),))
    assert problem(one_kind, folder, PAIRS) == found
    assert problem(one_kind, folder, TASK) is None, "texts that are no pairs are not marked"


def test_an_error_of_the_trial_itself_is_told_apart_from_a_problem_of_the_student(tmp_path: Path) -> None:
    student = {"start": {"kind": "fresh"}, "directory": str(tmp_path), "task": TASK.model_dump(mode="json")}
    assert list(answer(student)) == ["failure"], "there is no config.json"
    write_config(tmp_path, "bert")
    assert answer(student) == {"problem": None}
