"""The files of sentence encoders: which are read, and which are refused."""

import json
from pathlib import Path

import pytest
from tiny import packaged_model

from stages.models.sentences import (
    SentenceModules,
    is_sentence_encoder,
    most_tokens,
    read_modules,
    sentence_modules,
    write_modules,
)


def write(folder: Path, *kinds: tuple[str, str], pooling: dict[str, object] | None = None) -> Path:
    """The files of a model whose modules have these kinds and folders."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert"}', "utf-8")
    modules = [{"idx": 0, "path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    document = {"pooling_mode_mean_tokens": True} if pooling is None else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(document), "utf-8")
    return folder


FIRST = (("Transformer", ""), ("Pooling", "1_Pooling"))


def test_the_modules_of_the_packaged_encoder_are_read() -> None:
    assert read_modules(packaged_model()) == SentenceModules("mean", None, True)
    assert is_sentence_encoder(packaged_model()) and most_tokens(packaged_model()) == 256


@pytest.mark.parametrize(
    ("document", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "mean", "embedding_dimension": 8}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_pooling_is_read_as_older_and_newer_versions_write_it(
    document: dict[str, object], pooling: str, tmp_path: Path
) -> None:
    assert read_modules(write(tmp_path / "m", *FIRST, pooling=document)) == SentenceModules(pooling, None, False)


def test_without_modules_the_pooling_of_its_folder_counts_and_else_that_which_is_given(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", *FIRST)
    (folder / "modules.json").unlink()
    assert read_modules(folder) == SentenceModules("mean") and not is_sentence_encoder(folder)
    (folder / "1_Pooling" / "config.json").unlink()
    assert read_modules(folder) is None and sentence_modules(folder, "cls") == SentenceModules("cls")


def test_a_model_with_a_head_for_labels_is_no_sentence_encoder(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", *FIRST)
    assert is_sentence_encoder(folder)
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}')
    assert not is_sentence_encoder(folder)


@pytest.mark.parametrize(
    ("kinds", "pooling", "problem"),
    [
        ((("Transformer", ""),), None, "has no module Pooling"),
        ((*FIRST, ("LSTM", "2_LSTM")), None, "module 2 is a LSTM"),
        ((("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")), None, "module 0 is a Transformer"),
        (FIRST, {"pooling_mode_max_tokens": True}, "pooling by max_tokens"),
        (FIRST, {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, "max_tokens and mean_tokens"),
        (FIRST, {}, "pooling by nothing"),
        ((*FIRST, ("Dense", "2_Dense")), None, "2_Dense/config.json: cannot be read"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    kinds: tuple[tuple[str, str], ...], pooling: dict[str, object] | None, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=problem):
        read_modules(write(tmp_path / "m", *kinds, pooling=pooling))


def test_a_dense_module_with_an_activation_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", *FIRST, ("Dense", "2_Dense"))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.activation.Tanh"}')
    with pytest.raises(ValueError, match=r"its activation is torch\.nn\.modules\.activation\.Tanh"):
        read_modules(folder)


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    for pooling, normalize in (("mean", True), ("cls", False)):
        write_modules(tmp_path, pooling, normalize, 64, 16, None)
        (tmp_path / "config.json").write_text('{"model_type": "bert"}', "utf-8")
        assert read_modules(tmp_path) == SentenceModules(pooling, None, normalize)
        assert most_tokens(tmp_path) == 64
