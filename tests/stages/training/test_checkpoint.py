"""Checkpoints: what is saved is loaded again, and files of another format are refused."""

import pickle
from pathlib import Path

import pytest
import torch

from stages.specs.axes.training import Position
from stages.training.checkpoint import FORMAT, Epoch, LayerWeight, OtherFormat, Progress, load, save
from stages.training.sums import sum_layout

LAYOUT = sum_layout(("match", "hard"), 2, {"candidates": 1})
SUMS = [1 / 3, 0.25, 1e-17, 2.0, 3.0, 7.0]
HISTORY = [Epoch("anneal", 1, 0.1 + 0.2, 83.5, 1 / 7, 12.25), Epoch("labels", 1, 1e-17, 84.0, 0.7, 30.0)]


def progress() -> Progress:
    best_weights = {"w": torch.tensor([1 / 3, -0.0])}
    return Progress(
        LAYOUT, Position(1, 2, 3), 45.5, list(HISTORY), 1, best_weights, sums=list(SUMS), learning_rate=1e-4 / 3
    )


def optimizer_after_two_steps(weight: torch.Tensor) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for _ in range(2):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def test_a_checkpoint_is_loaded_bit_for_bit_as_it_was_saved(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.tensor([0.1, 0.2]))
    optimizer = optimizer_after_two_steps(weight)
    path = tmp_path / "scratch" / "checkpoint.pt"
    save(path, progress(), {"student": {"w": weight.detach()}, "optimizer": optimizer.state_dict()})
    found = load(path, ("student", "optimizer"), LAYOUT)
    assert found is not None
    back, parts = found
    assert back.learning_rate == 1e-4 / 3
    model, state = parts["student"], parts["optimizer"]
    assert (back.position, back.sums, back.loss, back.seconds, back.history, back.best) == (
        Position(1, 2, 3),
        SUMS,
        1 / 3,
        45.5,
        HISTORY,
        1,
    )
    assert torch.equal(back.best_weights["w"], progress().best_weights["w"])
    assert torch.equal(model["w"], weight)
    again = torch.nn.Parameter(model["w"].clone())
    resumed = torch.optim.AdamW([again], lr=0.1, fused=True)
    resumed.load_state_dict(state)
    for parameter, its in ((weight, optimizer), (again, resumed)):
        parameter.square().sum().backward()
        its.step()
    assert torch.equal(weight, again), "the optimizer goes on where it was"


def test_loading_before_the_first_save_returns_none(tmp_path: Path) -> None:
    assert load(tmp_path / "checkpoint.pt", (), LAYOUT) is None


def test_the_measured_weight_of_layers_is_kept(tmp_path: Path) -> None:
    path, kept = tmp_path / "checkpoint.pt", progress()
    kept.layer_weight = LayerWeight(1 / 3, 0.1, 0.3, 4)
    save(path, kept, {})
    found = load(path, (), LAYOUT)
    assert found is not None
    assert found[0].layer_weight == kept.layer_weight
    assert found[0].auto_weight == 1 / 3


def test_a_failed_save_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, progress(), {})
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save(path, Progress(LAYOUT, learning_rate=1.0), {"student": {"not data": lambda: 0}})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_later_checkpoint_replaces_the_earlier_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for best in (0, 1):
        save(path, Progress(LAYOUT, best=best, learning_rate=1.0), {})
    found = load(path, (), LAYOUT)
    assert found is not None and found[0].best == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_format_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"position": {"phase": 0}, "model": {}, "optimizer": {}}, path)  # format 1 had no number
    with pytest.raises(OtherFormat, match=rf"^a checkpoint of format 1, this version has {FORMAT}$"):
        load(path, ("student",), LAYOUT)


@pytest.mark.parametrize("name", ["layer_weight", "sums", "learning_rate", "history"])
def test_a_checkpoint_of_this_format_that_lacks_a_field_is_refused_and_the_field_named(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, progress(), {"student": {}})
    document = torch.load(path, weights_only=True)
    del document["progress"][name]
    torch.save(document, path)
    with pytest.raises(OtherFormat, match=rf"^a damaged checkpoint of format {FORMAT} \(KeyError: '{name}'\)$"):
        load(path, ("student",), LAYOUT)


def test_a_checkpoint_of_this_format_with_a_field_of_another_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, progress(), {"student": {}})
    kept = torch.load(path, weights_only=True)
    for name, value in (("best_weights", []), ("position", None), ("history", [{"phase": "train"}])):
        torch.save({**kept, "progress": {**kept["progress"], name: value}}, path)
        with pytest.raises(OtherFormat, match=r"^a damaged checkpoint of format"):
            load(path, ("student",), LAYOUT)
    torch.save({**kept, "progress": []}, path)
    with pytest.raises(OtherFormat, match=r"^a damaged checkpoint of format"):
        load(path, ("student",), LAYOUT)


def test_a_checkpoint_with_other_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, progress(), {"student": {}, "adversary": {}})
    with pytest.raises(OtherFormat, match=r"the parts \['adversary', 'student'\], the training has \['student'\]"):
        load(path, ("student",), LAYOUT)


def test_a_checkpoint_with_the_sums_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, progress(), {})
    for other in (sum_layout(("hard",), 2, {"candidates": 1}), sum_layout(("match", "hard"), 3, {"candidates": 1})):
        with pytest.raises(OtherFormat, match=r"^a checkpoint with the sums \['loss', 'term/match'"):
            load(path, (), other)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"", bytes(4096)])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(OtherFormat, match="not a readable checkpoint"):
        load(path, ("student",), LAYOUT)
