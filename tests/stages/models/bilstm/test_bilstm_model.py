"""BiLSTMs: what they compute, that padding changes nothing, how pairs are read, and how they are saved and loaded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_tiny_model
from transformers import AutoConfig, AutoModelForSequenceClassification, BertForSequenceClassification

from stages.models.bilstm import BILSTM, bilstm_parameters
from stages.models.bilstm.model import BilstmConfig, BilstmForSequenceClassification, texts_of_pairs
from stages.models.forward import count_parameters, forward
from stages.models.heads import loads_with
from stages.models.loading import build, load, word_embeddings
from stages.models.shape import Shape, config_of, shape_of
from stages.models.weights_header import weight_shapes
from stages.specs.student import Bilstm
from stages.specs.tasks import Task

ONE = Task(name="one", text=("text",), labels=("a", "b", "c"))
PAIR = Task(name="pair", text=("first", "second"), metrics=("pearson",))
SMALL = Bilstm(hidden=5, fc=6, dropout=0.0)
STARTS = {
    "copied": SMALL,
    "projected": Bilstm(hidden=5, fc=6, width=7, layers=2, dropout=0.0),
    "random": Bilstm(hidden=5, fc=6, embeddings="random", width=9, dropout=0.0),
}
CLS, SEP, PAD = 101, 102, 0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer of width 16, with its tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("encoder"), layers=1, width=16, initializer_range=0.3)


def made(encoder: Path, task: Task, start: Bilstm = SMALL, seed: int = 0) -> BilstmForSequenceClassification:
    torch.manual_seed(seed)
    model = build(start, encoder, task)
    assert isinstance(model, BilstmForSequenceClassification)
    return model.eval()


def logits(model: torch.nn.Module, rows: list[list[int]], length: int = 0) -> torch.Tensor:
    """[rows, C]: the logits of rows of tokens, padded to ``length`` or to the longest of them."""
    longest = max(length, *map(len, rows))
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        return forward(model, {"input_ids": ids, "attention_mask": mask})[0]


# --- what it computes -------------------------------------------------------------------------------------


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-values))


def last_state(words: np.ndarray, weights: dict[str, np.ndarray], suffix: str) -> np.ndarray:
    """The last state of one direction over ``words`` [T, E], by the equations of an LSTM."""
    state = cell = np.zeros(weights[f"encoder.lstm.weight_hh_{suffix}"].shape[1])
    for word in words:
        gates = weights[f"encoder.lstm.weight_ih_{suffix}"] @ word + weights[f"encoder.lstm.bias_ih_{suffix}"]
        gates = gates + weights[f"encoder.lstm.weight_hh_{suffix}"] @ state + weights[f"encoder.lstm.bias_hh_{suffix}"]
        enter, forget, value, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(value)
        state = sigmoid(leave) * np.tanh(cell)
    return state


def by_hand(model: BilstmForSequenceClassification, *texts: list[int]) -> np.ndarray:
    """The logits of one text, or of a pair of texts, in NumPy."""
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    states = []
    for text in texts:
        words = weights["encoder.word_embeddings.weight"][text]
        ends = last_state(words, weights, "l0"), last_state(words[::-1], weights, "l0_reverse")
        states.append(np.concatenate(ends))
    features = states[0]
    if len(states) == 2:
        one, two = states
        features = np.concatenate([one, two, np.abs(one - two), one * two])
    hidden = np.maximum(0.0, weights["fully_connected.weight"] @ features + weights["fully_connected.bias"])
    found: np.ndarray = weights["classifier.weight"] @ hidden + weights["classifier.bias"]
    return found


def test_a_text_is_classified_by_the_last_states_of_both_directions(encoder: Path) -> None:
    model, rows = made(encoder, ONE), [[CLS, 2054, 2003, SEP], [CLS, 2204, SEP]]
    expected = np.stack([by_hand(model, row) for row in rows])
    np.testing.assert_allclose(logits(model, rows).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_pair_is_read_as_two_texts_by_one_lstm_and_compared(encoder: Path) -> None:
    model = made(encoder, PAIR)
    rows = [[CLS, 2054, 2003, 2204, SEP, 2919, SEP], [CLS, 2204, SEP, 2919, 2003, SEP]]
    texts = [([2054, 2003, 2204, SEP], [2919, SEP]), ([2204, SEP], [2919, 2003, SEP])]
    expected = np.stack([by_hand(model, *pair) for pair in texts])
    np.testing.assert_allclose(logits(model, rows).numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", [ONE, PAIR], ids=["text", "pair"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_more_padding_changes_no_bit_and_neither_does_padding_on_the_left(
    encoder: Path, start: Bilstm, task: Task
) -> None:
    model, rows = made(encoder, task, start), [[CLS, 2054, 2003, SEP, 2204, 2919, SEP], [CLS, 2204, SEP, 2919, SEP]]
    plain = logits(model, rows)
    assert torch.equal(logits(model, rows, 20), plain)
    ids = torch.tensor([[PAD] * (12 - len(row)) + row for row in rows])
    with torch.no_grad():
        left = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits
    assert torch.equal(left, plain)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_embeddings_in_the_place_of_tokens_give_the_same_logits(encoder: Path, start: Bilstm) -> None:
    ids, types = torch.tensor([[CLS, 2054, SEP, 2204, 2919, SEP]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    with torch.no_grad():
        for task, ways in ((ONE, [{}]), (PAIR, [{"token_type_ids": types}, {"input_ids": ids}])):
            model = made(encoder, task, start)
            expected = model(input_ids=ids).logits
            for way in ways:
                found = model(inputs_embeds=word_embeddings(model)[ids], **way)
                assert torch.equal(found.logits, expected)


def test_a_call_without_input_or_without_the_place_of_the_second_text_is_refused(encoder: Path) -> None:
    model = made(encoder, PAIR)
    with pytest.raises(ValueError, match=r"^input_ids: neither they nor inputs_embeds are given; give one of them$"):
        model()
    with pytest.raises(ValueError, match=r"^token_type_ids: missing, and needed to find the second text of a pair;"):
        model(inputs_embeds=torch.zeros(1, 4, 16))


@pytest.mark.parametrize("task", [ONE, PAIR], ids=["text", "pair"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_every_parameter_has_a_gradient_also_in_bfloat16(encoder: Path, start: Bilstm, task: Task) -> None:
    """Workers that train together would wait for one that has none."""
    model = made(encoder, task, start).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.tensor([[CLS, 2054, SEP, 2204, SEP]])).logits.float().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


# --- where the texts of a pair are ------------------------------------------------------------------------


def halves(row: list[int], types: list[int] | None = None, leading: int = 1) -> tuple[list[int], list[int]]:
    """The tokens of the two texts of a row, in which 0 is padding and 9 the separator."""
    ids = torch.tensor([row])
    marks = None if types is None else torch.tensor([types])
    one, two = texts_of_pairs(ids != 0, ids, marks, 9, leading)
    return ids[one].tolist(), ids[two].tolist()


def test_the_second_text_begins_after_the_first_separators_or_where_its_type_says() -> None:
    assert halves([1, 5, 6, 9, 7, 9, 0, 0]) == ([5, 6, 9], [7, 9]), "BERT"
    assert halves([1, 5, 6, 9, 9, 7, 9, 0]) == ([5, 6, 9], [7, 9]), "RoBERTa"
    assert halves([5, 6, 9, 7, 9, 0], leading=0) == ([5, 6, 9], [7, 9]), "T5"
    assert halves([0, 0, 5, 6, 9, 7, 9, 4], [3, 3, 0, 0, 0, 1, 1, 2], leading=0) == ([5, 6, 9], [7, 9]), "XLNet"
    # A text that has the separator in itself is read whole where types tell.
    assert halves([1, 5, 9, 6, 9, 7, 9, 0], [0, 0, 0, 0, 0, 1, 1, 0]) == ([5, 9, 6, 9], [7, 9])


def test_an_empty_text_of_a_pair_is_read_as_the_last_token_of_its_row() -> None:
    assert halves([1, 9, 7, 9]) == ([9], [7, 9])
    assert halves([1, 5, 9, 9]) == ([5, 9], [9])
    assert halves([1, 5, 9, 9, 9, 0]) == ([5, 9], [9])
    assert halves([1, 5, 6, 4]) == ([5, 6, 4], [4]), "a row without a separator"


# --- where its weights come from --------------------------------------------------------------------------


def test_the_word_embeddings_are_the_teachers_and_all_other_weights_follow_from_the_seed(encoder: Path) -> None:
    table = word_embeddings(load(encoder, ONE))
    for name in ("copied", "projected"):
        assert torch.equal(word_embeddings(made(encoder, ONE, STARTS[name])), table)
    one, same, other = (made(encoder, ONE, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in one.state_dict().items())
    equal = [name for name, value in one.state_dict().items() if torch.equal(value, other.state_dict()[name])]
    assert equal == ["encoder.word_embeddings.weight"]
    random = word_embeddings(made(encoder, ONE, STARTS["random"])).detach()
    assert random.shape == (len(table), 9) and 0.2 < float(random.abs().max()) <= 0.25


@pytest.mark.parametrize("task", [ONE, PAIR], ids=["text", "pair"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_planning_knows_the_exact_number_of_parameters(encoder: Path, start: Bilstm, task: Task) -> None:
    tokens, width = word_embeddings(load(encoder, ONE)).shape
    expected = bilstm_parameters(start, tokens, width, task.outputs, task.pair)
    assert count_parameters(made(encoder, task, start)) == expected


# --- on disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [ONE, PAIR], ids=["text", "pair"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_the_weights_of_a_saved_bilstm_load_again_bit_for_bit(
    encoder: Path, start: Bilstm, task: Task, tmp_path: Path
) -> None:
    model, rows = made(encoder, task, start), [[CLS, 2054, SEP, 2204, SEP]]
    model.save_pretrained(tmp_path)
    again = load(tmp_path).eval()
    assert type(again) is BilstmForSequenceClassification
    assert again.config.id2label == model.config.id2label
    assert again.state_dict().keys() == model.state_dict().keys() == weight_shapes(tmp_path).keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    # Weights that lie elsewhere in memory may be multiplied in another order.
    torch.testing.assert_close(logits(again, rows), logits(model, rows), rtol=1e-6, atol=1e-6)


def test_every_class_of_plain_transformers_refuses_a_saved_bilstm(encoder: Path, tmp_path: Path) -> None:
    made(encoder, ONE).save_pretrained(tmp_path)
    for auto in (AutoConfig, AutoModelForSequenceClassification):
        with pytest.raises(ValueError, match=BILSTM):
            auto.from_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        BertForSequenceClassification.from_pretrained(tmp_path)
    assert loads_with(BILSTM, None) == "stillhouse.load_model"


def test_a_saved_bilstm_starts_the_student_of_a_task_with_other_labels_or_with_pairs(
    encoder: Path, tmp_path: Path
) -> None:
    model = made(encoder, ONE)
    model.save_pretrained(tmp_path)
    two = Task(name="two", text=("text",), labels=("no", "yes"))
    for task in (two, PAIR):
        again = load(tmp_path, task).eval()
        assert logits(again, [[CLS, 2054, SEP, 2204, SEP]]).shape == (1, task.outputs)
        kept = [name for name in model.state_dict() if name.startswith("encoder.")]
        assert all(torch.equal(again.state_dict()[name], model.state_dict()[name]) for name in kept)
        assert again.config.pair == task.pair


def test_a_lack_of_weights_is_refused(encoder: Path, tmp_path: Path) -> None:
    model = made(encoder, ONE)
    some = {name: value for name, value in model.state_dict().items() if "classifier" not in name}
    model.save_pretrained(tmp_path, state_dict=some)
    with pytest.raises(ValueError, match=r"the weights lack classifier\.bias"):
        load(tmp_path)


def test_a_saved_bilstm_has_no_layers_to_store_or_to_match(encoder: Path, tmp_path: Path) -> None:
    made(encoder, ONE).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["model_type"] == BILSTM
    assert shape_of(config_of(tmp_path), "here") == Shape(0, 5)
    model = BilstmForSequenceClassification(BilstmConfig(vocab_size=20, embedding_size=4, hidden_size=3, fc_size=3))
    assert forward(model, {"input_ids": torch.tensor([[1, 2]])}, hidden=True)[1] == ()
