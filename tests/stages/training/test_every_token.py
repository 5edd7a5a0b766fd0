"""TinyBERT's two phases: the loss of states and scores at every token, and the turn from layers to logits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_setups import (
    CLASSES,
    NUMBER,
    TINYBERT,
    LocalWorker,
    assert_two_workers_train_as_one_does,
    inline,
    setup_of,
    signal_for,
    small_bert,
    spec_of,
)
from transformers import AutoModelForSequenceClassification

from stages.cache_folder import CacheFolder
from stages.corpus.reader import read_split
from stages.corpus.rowset import read_rowset
from stages.models.forward import attention_scores, forward
from stages.outputs.layout import read_store
from stages.outputs.node_cache import decode_positions
from stages.specs.axes.kinds import CLASSIFICATION, REGRESSION, TaskKind
from stages.specs.axes.terms import SoftTerm, SquaredTerm
from stages.specs.axes.training import LayersFirst, Position
from stages.specs.layer_map import score_name, token_state_name
from stages.specs.layers import EveryToken
from stages.specs.method import Method
from stages.specs.schedule import epoch_plan, terms_at
from stages.specs.student import Cut, DistilSpec, Train
from stages.specs.teacher import TeachSpec
from stages.teaching.teach import teach
from stages.training.checkpoint import Progress
from stages.training.distil import distil
from stages.training.loop import fit
from stages.training.objective.matching import EveryTokenMatcher, MatchedRows, Widths, matcher_of
from stages.training.objective.relations import Workers
from stages.training.objective.trained_parts import TrainedParts
from stages.training.setup import host_batches
from stages.training.signal import StoredSignal

LENGTHS = (5, 3, 1)


def reference(
    states: dict[int, np.ndarray],
    scores: dict[int, np.ndarray],
    outputs: dict[str, np.ndarray],
    structure: EveryToken,
    weight: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    """[B]: the loss of each row in NumPy, over its own tokens alone."""
    found = []
    for row, length in enumerate(LENGTHS):
        total = 0.0
        for group in structure.layer_groups():
            (layer,) = group.teacher
            projected = states[group.student][row, :length] @ weight.T + bias
            total += np.mean((projected - outputs[token_state_name(layer)][row, :length]) ** 2)
            if structure.scores and group.student:
                pair = (scores[group.student], outputs[score_name(layer)])
                one, other = (np.where(a <= -100, 0, a)[row, :, :length, :length] for a in pair)
                total += np.mean((one - other) ** 2)
        found.append(total)
    return np.array(found)


@pytest.mark.parametrize("matches_scores", [True, False])
def test_the_loss_is_the_squared_error_of_states_and_scores_over_a_rows_own_tokens(matches_scores: bool) -> None:
    generator = np.random.Generator(np.random.PCG64(4))
    structure = EveryToken(pairs=((0, 0), (1, 3), (2, 6)), scores=matches_scores)
    states = {layer: generator.normal(size=(3, 5, 4)) for layer in (0, 1, 2)}
    scores = {layer: generator.normal(0, 60, size=(3, 2, 5, 5)) for layer in (1, 2)}
    outputs = {token_state_name(layer): generator.normal(size=(3, 5, 6)) for layer in (0, 3, 6)}
    outputs |= {score_name(layer): generator.normal(0, 60, size=(3, 2, 5, 5)) for layer in (3, 6)}
    assert (scores[1] <= -100).any() and (outputs["scores_03"] <= -100).any()
    for layer in (1, 2):
        scores[layer][1, :, :, 3:] = -np.inf  # as a model's own mask leaves padding
    matcher = matcher_of(structure, Widths((4,) * 5, dict.fromkeys(range(9), 6), 3))
    assert isinstance(matcher, EveryTokenMatcher)
    (shared,) = matcher.student
    assert isinstance(shared, nn.Linear)
    mask = (torch.arange(5) < torch.tensor(LENGTHS)[:, None]).long()
    tensors = [
        {name: torch.from_numpy(value).float() for name, value in part.items()} for part in (states, scores, outputs)
    ]
    rows = MatchedRows(tensors[0], tensors[2], structure.layer_groups(), Workers(rows=3), 1.0, mask, tensors[1])
    found = matcher(rows)
    weight, bias = (one.detach().double().numpy() for one in (shared.weight, shared.bias))
    expected = reference(states, scores, outputs, structure, weight, bias)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)
    found.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in matcher.parameters() if one.grad is not None)


def test_all_layers_share_one_projection_also_where_the_widths_agree() -> None:
    matcher = matcher_of(TINYBERT.structure, Widths((16,) * 5, dict.fromkeys(range(9), 16), 3))
    assert [tuple(one.shape) for one in matcher.parameters()] == [(16, 16), (16,)]


def test_a_training_compares_the_students_own_states_and_scores_with_the_stored_ones(tmp_path: Path) -> None:
    """Against plain forward passes over one row each, without padding."""
    setup = setup_of(spec_of(TINYBERT), CLASSES, tmp_path / "c.pt", signal_for(TINYBERT, CLASSES))
    model = small_bert(CLASSES)
    parts = TrainedParts(model, setup, LocalWorker())
    model.eval()
    (projection,) = parts.matcher.student
    numbers = np.array([3, 8, 20])
    (term,) = terms_at(TINYBERT, Position(), 2, CLASSIFICATION)
    plan = epoch_plan(TINYBERT, Position(), 2, CLASSIFICATION)
    assert plan.terms == (term,) and term.name == "layers"
    (batch,) = host_batches(setup.train, setup.signal, numbers, plan.request, 8)
    found = parts.loss(batch, 3, plan)
    teacher = small_bert(CLASSES, seed=99, layers=4).eval()
    teacher.set_attn_implementation("eager")
    expected = []
    with torch.no_grad():
        for row in numbers:
            inputs = setup.train.batch(np.array([row]), "cpu").inputs
            ours, theirs = forward(model, inputs, hidden=True)[1], forward(teacher, inputs, hidden=True)[1]
            own_scores, scores = attention_scores(model, inputs), attention_scores(teacher, inputs)
            total = sum(nn.functional.mse_loss(projection(ours[i]), theirs[2 * i]) for i in range(3))
            expected.append(total + sum(nn.functional.mse_loss(own_scores[i], scores[2 * i + 1]) for i in range(2)))
    torch.testing.assert_close(found.loss, torch.stack(expected), rtol=1e-5, atol=1e-5)


# --- phases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CLASSIFICATION, REGRESSION])
def test_the_first_phase_has_the_layers_alone_and_the_second_the_teachers_logits_alone(kind: TaskKind) -> None:
    first, second = (terms_at(TINYBERT, Position(phase), 2, kind) for phase in (0, 1))
    assert [term.name for term in first] == ["layers"]
    assert second == ((SoftTerm(1.0, 1.0, "mean"),) if kind.has_classes else (SquaredTerm(1.0),))


def test_the_second_phase_starts_from_the_last_weights_of_the_first_and_has_the_best_epoch(tmp_path: Path) -> None:
    """The scores of the first phase are those of a head that is not trained, and may be the higher ones by luck."""
    weights: list[dict[str, torch.Tensor]] = []

    def keep(model: nn.Module, _epoch: int) -> None:
        weights.append({name: value.clone() for name, value in model.state_dict().items()})

    setup = setup_of(
        spec_of(TINYBERT, epochs=4, learning_rate=1e-9), CLASSES, tmp_path / "c.pt", signal_for(TINYBERT, CLASSES)
    )
    progress = fit(small_bert(CLASSES), replace(setup, save_epoch=keep), LocalWorker())
    assert [epoch.phase for epoch in progress.history] == ["layers", "layers", "logits", "logits"]
    assert progress.best >= 2
    for name in weights[0]:
        assert torch.allclose(weights[1][name], weights[2][name], atol=1e-6), name
    trained = fit(
        small_bert(CLASSES),
        replace(
            setup_of(spec_of(TINYBERT, epochs=4), CLASSES, tmp_path / "d.pt", signal_for(TINYBERT, CLASSES)),
            save_epoch=keep,
        ),
        LocalWorker(),
    )
    first, last = (epoch.loss for epoch in trained.history[:2])
    assert last < first
    assert torch.equal(weights[4]["classifier.bias"], weights[5]["classifier.bias"]), "no gradient reaches the head"
    assert not torch.equal(weights[5]["classifier.bias"], weights[6]["classifier.bias"])


def trained(checkpoint: Path, worker: LocalWorker) -> tuple[nn.Module, Progress]:
    """A training without dropout, by this worker."""
    model = small_bert(NUMBER)
    setup = setup_of(spec_of(TINYBERT, epochs=2), NUMBER, checkpoint, signal_for(TINYBERT, NUMBER))
    return model, fit(model, setup, worker)


def test_two_workers_train_as_one_does(tmp_path: Path) -> None:
    assert_two_workers_train_as_one_does(trained, tmp_path)


# --- stores -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_padded_columns_are_what_the_teacher_computes_for_each_row(
    precision: str, tiny_corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    specs = {"tokens": TeachSpec(part="tokens", layers=(0, 3), precision=precision), "scores": TeachSpec(part="scores")}
    rows = read_rowset(tiny_corpus, "train")
    model = AutoModelForSequenceClassification.from_pretrained(teacher, attn_implementation="eager").eval()
    chosen = np.array([40, 2, 2, 17, 5])
    lengths = rows.costs[chosen]
    assert len(set(lengths.tolist())) > 1
    cache = CacheFolder(tmp_path / "cache", 10**9)
    columns = {"tokens": "tokens_03", "scores": "scores_02"}
    for part, spec in specs.items():
        (tmp_path / part).mkdir()
        teach(spec, {"corpus": tiny_corpus, "model": teacher}, tmp_path / part, inline())
        found = decode_positions(tmp_path / part, [columns[part]], rows.row_keys, cache, lambda _line: None)
        padded = found.padded(columns[part], chosen)
        longest = int(lengths.max())
        assert padded.shape == ((5, longest, 16) if part == "tokens" else (5, 2, longest, longest))
        again = decode_positions(tmp_path / part, [columns[part]], rows.row_keys, cache, lambda _line: None)
        assert np.array_equal(again.padded(columns[part], chosen), padded)
        for place, (row, length) in enumerate(zip(chosen, lengths, strict=True)):
            inputs = rows.batch(np.array([row]), "cpu").inputs
            with torch.no_grad():
                expected = (
                    forward(model, inputs, hidden=True)[1][3]
                    if part == "tokens"
                    else attention_scores(model, inputs)[1]
                )
            real = padded[place, :length] if part == "tokens" else padded[place, :, :length, :length]
            atol = 0.05 if (part, precision) == ("tokens", "int8") else 5e-3
            np.testing.assert_allclose(real.astype(np.float32), expected[0].numpy(), atol=atol)
            beyond = padded[place, length:] if part == "tokens" else padded[place, :, length:, length:]
            assert not beyond.any()


def test_a_student_is_made_from_the_stores_and_loads_as_any_other(
    tiny_corpus: Path, teacher: Path, store: Path, tmp_path: Path
) -> None:
    structure = EveryToken().resolved(1, 3)
    for part, layers in (("tokens", (0, 3)), ("scores", structure.score_layers)):
        (tmp_path / part).mkdir()
        spec = TeachSpec(part=part, layers=layers)
        teach(spec, {"corpus": tiny_corpus, "model": teacher}, tmp_path / part, inline())
        assert read_store(tmp_path / part).layout.layers == layers
    inputs = {"corpus": tiny_corpus, "start": teacher, "outputs": store}
    inputs |= {part: tmp_path / part for part in ("tokens", "scores")}
    method = Method(targets=TINYBERT.targets, training=LayersFirst(first_phase=0.5), structure=structure)
    train = Train(epochs=2, batch_size=16, learning_rate=1e-3)
    (tmp_path / "out").mkdir()
    facts = distil(DistilSpec(start=Cut(layers=(1,)), method=method, train=train), inputs, tmp_path / "out", inline())
    assert facts["best_epoch"] == 2
    history = json.loads((tmp_path / "out" / "history.json").read_text("utf-8"))["epochs"]
    assert [epoch["phase"] for epoch in history] == ["layers", "logits"]
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "model")
    assert loaded.config._attn_implementation == "sdpa", "eager attention is a matter of the training alone"
    assert len(read_split(tiny_corpus, "train")) == facts["rows"]


def test_a_step_of_logits_reads_no_positions() -> None:
    signal = signal_for(TINYBERT, CLASSES)
    assert isinstance(signal, StoredSignal)
    requests = [epoch_plan(TINYBERT, Position(phase), 2, CLASSIFICATION).request for phase in (0, 1)]
    names = [set(signal.read(np.array([1, 4]), request)) for request in requests]
    assert names == [{"tokens_00", "tokens_02", "tokens_04", "scores_02", "scores_04"}, {"logits"}]


def test_a_compiled_model_gives_no_scores() -> None:
    with pytest.raises(ValueError, match=r"train\.compile: true, but attention scores cannot be recorded"):
        spec_of(TINYBERT, compile=True)
    states_alone = TINYBERT.model_copy(update={"structure": TINYBERT.structure.model_copy(update={"scores": False})})
    assert spec_of(states_alone, compile=True).train.compile
