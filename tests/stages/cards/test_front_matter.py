"""What a card repeats of the model that a student was made of, and the front matter that hubs read."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from stages.cards.front_matter import BaseModel, front_matter, read_base
from stages.specs.tasks import Task

TASK = Task(name="reviews", text=("text",), labels=("bad", "good"), metrics=("accuracy", "matthews"))


def write_card(directory: Path, front: str, made_here: bool = False) -> Path:
    directory.mkdir(parents=True)
    (directory / "README.md").write_text(f"---\n{front}\n---\n# A title\n", "utf-8")
    if made_here:
        (directory.parent / "lineage.json").write_text("{}", "utf-8")
    return directory


def test_a_model_of_the_hub_gives_its_name_its_licence_and_its_languages(tmp_path: Path) -> None:
    directory = write_card(tmp_path / "model", "license: apache-2.0\nlanguage: en\nbase_model: above/it")
    found = read_base(directory, "sentence-transformers/all-MiniLM-L6-v2")
    assert found == BaseModel("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0", language="en")
    other = write_card(tmp_path / "other", "license: other\nlicense_name: llama\nlicense_link: LICENSE\nlanguage: [de]")
    assert read_base(other, "bert-base-german-cased").license_name == "llama"


@pytest.mark.parametrize("name", ["finetune@reviews", "pretrain/adapted"])
def test_a_model_that_was_made_here_hands_on_what_its_own_card_says(tmp_path: Path, name: str) -> None:
    directory = write_card(tmp_path / "0001" / "model", "license: mit\nbase_model: roberta-large", made_here=True)
    assert read_base(directory, name) == BaseModel("roberta-large", "mit")


def test_a_directory_without_a_card_says_nothing(tmp_path: Path) -> None:
    assert read_base(tmp_path, str(tmp_path)) == BaseModel()


@pytest.mark.parametrize("front", ["license: [mit", "- a list", "license: {a: b}\nlanguage: 3\nbase_model: [a/b]"])
def test_a_card_of_another_form_says_nothing(tmp_path: Path, front: str) -> None:
    assert read_base(write_card(tmp_path / "model", front), str(tmp_path)) == BaseModel()


def test_the_hubs_own_reader_finds_the_scores_the_licence_and_the_base_model() -> None:
    scores = {"validation": {"accuracy": 75.812, "matthews": 51.0}, "test": {"accuracy": 74.0}}
    base = BaseModel("roberta-large", "mit", language=["en", "de"])
    text = front_matter("a student", "transformers", TASK, base, scores)
    card = ModelCard(f"{text}\n# a student\n")
    assert (card.data.base_model, card.data.license, card.data.language) == ("roberta-large", "mit", ["en", "de"])
    assert card.data.metrics == ["accuracy", "matthews_correlation"]
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in card.data.eval_results or ()}
    assert found == {
        ("validation", "accuracy"): 75.81,
        ("validation", "matthews_correlation"): 51.0,
        ("test", "accuracy"): 74.0,
    }


def test_what_is_not_known_is_left_out() -> None:
    text = front_matter("a student", "stillhouse", TASK, BaseModel(), {})
    fields = yaml.safe_load(text.strip("-\n"))
    assert set(fields) == {"library_name", "metrics", "pipeline_tag", "tags"} and "null" not in text
