"""Word embeddings in the place of tokens: the same outputs for any architecture, and gradients through them."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.distributed
from tiny import ENCODER_SIZES, ENCODERS, random_classifier
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from stages.models.adapters.protocol import ForwardOutputs
from stages.models.architectures import LAST_TOKEN_BY_ID, READS_TOKENS_ONLY
from stages.models.embeddings.words import embed, embed_one_hot, word_embeddings
from stages.models.forward import attention_maps, forward, widths

HEADS = ("cls", "mean")
NARROW = ("electra", "deberta-v2")
MARKED_PAIRS = ("bert", "electra", "deberta-v2")
"""Architectures that read token types."""

AFTER_PADDING = ("roberta", "mpnet")
"""Architectures that leave padding out of the numbers of positions."""

LENGTHS = torch.tensor([9, 4, 7])
Inputs = dict[str, Tensor]


@cache
def classifier(name: str, head: str = "cls") -> PreTrainedModel:
    """Tests that change it take a copy."""
    return random_classifier(name, head)


def tokens(model: nn.Module, pair: bool = False, side: str = "right") -> Inputs:
    """Three rows of different lengths, padded on one side with the model's padding token."""
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    places = torch.arange(9)
    mask = places[None] < LENGTHS[:, None] if side == "right" else places[None] >= 9 - LENGTHS[:, None]
    pad = int(model.config.pad_token_id)  # type: ignore[union-attr, arg-type]
    found = {"input_ids": ids.masked_fill(~mask, pad), "attention_mask": mask.long()}
    return {**found, "token_type_ids": ((places >= 2) & mask).long()} if pair else found


def embedded(model: nn.Module, inputs: Inputs) -> Inputs:
    """The same rows as embeddings, without token ids."""
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    return {**rest, "inputs_embeds": embed(model, inputs["input_ids"])}


def same_bits(first: ForwardOutputs, second: ForwardOutputs) -> bool:
    pairs = zip((first.logits, *first.states), (second.logits, *second.states), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


# --- the same outputs as tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ENCODERS)
def test_the_embeddings_of_tokens_give_the_logits_and_all_states_of_the_tokens_bit_for_bit(
    name: str, head: str
) -> None:
    """Positions, token types, norm and projection are added once, in padding as well."""
    model = classifier(name, head)
    inputs = tokens(model)
    with torch.no_grad():
        expected = forward(model, inputs, hidden=True)
        found = forward(model, embedded(model, inputs), hidden=True)
    assert len(expected[1]) == 3
    assert same_bits(found, expected)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", MARKED_PAIRS)
def test_the_texts_of_a_pair_are_marked_beside_embeddings(name: str, head: str) -> None:
    model = classifier(name, head)
    inputs = tokens(model, pair=True)
    with torch.no_grad():
        expected = forward(model, inputs, hidden=True)
        found = forward(model, embedded(model, inputs), hidden=True)
        unmarked = forward(model, embedded(model, tokens(model)))
    assert same_bits(found, expected)
    assert not torch.allclose(unmarked[0], expected[0], atol=1e-3)


@pytest.mark.parametrize("name", AFTER_PADDING)
def test_positions_without_padding_are_counted_by_the_mask_wherever_the_padding_is(name: str) -> None:
    model = classifier(name, "mean")
    inputs = tokens(model, side="left")
    given = embedded(model, inputs)
    with torch.no_grad():
        expected = forward(model, inputs)
        found = forward(model, given)
        from_the_start = model(**given)  # as transformers numbers them by itself
    assert same_bits(found, expected)
    assert not torch.allclose(from_the_start.logits, expected[0], atol=1e-3)


@pytest.mark.parametrize("name", AFTER_PADDING)
def test_token_ids_beside_embeddings_number_the_positions_of_a_text_that_contains_the_padding_token(name: str) -> None:
    model = classifier(name)
    inputs = tokens(model)
    inputs["input_ids"][0, 3] = int(model.config.pad_token_id)
    with torch.no_grad():
        expected = forward(model, inputs, hidden=True)
        by_ids = forward(model, {**inputs, "inputs_embeds": embed(model, inputs["input_ids"])}, hidden=True)
        by_mask = forward(model, embedded(model, inputs), hidden=True)
    assert same_bits(by_ids, expected)
    assert not torch.allclose(by_mask[0], expected[0], atol=1e-3)


def test_of_tokens_and_embeddings_together_the_embeddings_are_read() -> None:
    model = classifier("bert")
    inputs = tokens(model)
    other = {**inputs, "input_ids": inputs["input_ids"].roll(1, 0)}
    with torch.no_grad():
        found = forward(model, {**other, "inputs_embeds": embed(model, inputs["input_ids"])})
        assert same_bits(found, forward(model, inputs))


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet"])
def test_without_a_mask_all_positions_are_tokens(name: str) -> None:
    model = classifier(name, "mean")
    ids = tokens(model)["input_ids"].clamp(min=5)
    with torch.no_grad():
        expected = forward(model, {"input_ids": ids}, hidden=True)
        assert same_bits(forward(model, {"inputs_embeds": embed(model, ids)}, hidden=True), expected)


@pytest.mark.parametrize("head", HEADS)
def test_longformers_first_token_attends_to_all_others_for_embeddings_too(head: str) -> None:
    model = random_classifier("longformer", head, attention_window=4)
    inputs = tokens(model)
    with torch.no_grad():
        expected = forward(model, inputs)[0]
        assert torch.equal(forward(model, embedded(model, inputs))[0], expected)
        if head == "mean":
            assert torch.equal(model(**embedded(model, inputs)).logits[0], expected[0])


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_attention_maps_of_embeddings_are_those_of_the_tokens(name: str) -> None:
    model = copy.deepcopy(classifier(name))
    model.set_attn_implementation("eager")
    inputs = tokens(model)
    with torch.no_grad():
        expected, found = attention_maps(model, inputs), attention_maps(model, embedded(model, inputs))
    assert len(found) == 2
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


# --- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_embed_gives_rows_of_the_table_alone_as_wide_as_the_table(name: str) -> None:
    model = classifier(name)
    ids = tokens(model)["input_ids"]
    tables = [value for key, value in model.state_dict().items() if value.shape[0] == 60 and value.ndim == 2]
    assert len(tables) == 1
    found = embed(model, ids)
    assert found.shape == (3, 9, 8 if name in NARROW else 16)
    assert torch.equal(found, tables[0][ids])


@pytest.mark.parametrize("name", ENCODERS)
def test_a_masked_language_model_and_an_encoder_without_a_head_have_the_same_kind_of_table(name: str) -> None:
    config = AutoConfig.for_model(name, **{**ENCODER_SIZES, **ENCODERS[name]})
    for model in (AutoModelForMaskedLM.from_config(config), AutoModel.from_config(config)):
        assert word_embeddings(model).weight.shape == (60, 8 if name in NARROW else 16)


def test_an_architecture_without_a_table_of_word_embeddings_is_refused_by_name() -> None:
    model = AutoModel.from_config(AutoConfig.for_model("canine", **{**ENCODER_SIZES, "hidden_size": 64}))
    with pytest.raises(ValueError, match=r"^canine: it has no table of word embeddings; choose a model that looks up"):
        embed(model, torch.tensor([[5]]))


# --- gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ENCODERS)
def test_through_embeddings_every_weight_has_the_gradient_that_it_has_through_tokens_bit_for_bit(
    name: str, head: str
) -> None:
    """With dropout, too: training on the embeddings of tokens is training on the tokens."""
    model = copy.deepcopy(classifier(name, head)).train()
    inputs = tokens(model)

    def gradients(read: Callable[[], Inputs]) -> tuple[Tensor | None, ...]:
        torch.manual_seed(5)
        return torch.autograd.grad(loss(forward(model, read())[0]), list(model.parameters()), allow_unused=True)

    expected, found = gradients(lambda: inputs), gradients(lambda: embedded(model, inputs))
    for one, other in zip(found, expected, strict=True):
        assert (one is None and other is None) or (one is not None and other is not None and torch.equal(one, other))


def loss(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.tensor([0, 2, 1]))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_gradient_of_the_embeddings_reaches_every_token_and_no_padding(name: str) -> None:
    model = classifier(name, "mean")
    given = embedded(model, tokens(model))
    given["inputs_embeds"] = given["inputs_embeds"].detach().requires_grad_()
    loss(forward(model, given)[0]).backward()
    assert given["inputs_embeds"].grad is not None
    assert torch.equal(given["inputs_embeds"].grad.abs().sum(-1) > 0, given["attention_mask"].bool())


@pytest.mark.parametrize("name", ["roberta", "electra"])
def test_the_gradient_of_the_embeddings_is_that_of_finite_differences(name: str) -> None:
    model = copy.deepcopy(classifier(name)).double()
    given = embedded(model, tokens(model))
    embeds = given["inputs_embeds"].detach().requires_grad_()
    direction = torch.randn(embeds.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(loss(forward(model, {**given, "inputs_embeds": embeds})[0]), embeds)
    step = 1e-6
    with torch.no_grad():
        above, below = (
            loss(forward(model, {**given, "inputs_embeds": embeds + sign * step * direction})[0]) for sign in (1, -1)
        )
    torch.testing.assert_close((gradient * direction).sum(), (above - below) / (2 * step), rtol=1e-6, atol=1e-9)


# --- one-hot vectors --------------------------------------------------------------------------------------


def straight_through(rows: int = 6, size: int = 60) -> tuple[Tensor, Tensor]:
    """Scores [rows, size] of a generator, and the one-hot vectors drawn by them."""
    scores = torch.randn(rows, size, generator=torch.Generator().manual_seed(2)).requires_grad_()
    torch.manual_seed(3)
    return scores, nn.functional.gumbel_softmax(scores, tau=1.0, hard=True)


@pytest.mark.parametrize("name", ENCODERS)
def test_one_hot_vectors_give_the_embeddings_of_the_tokens_that_they_choose_bit_for_bit(name: str) -> None:
    """The product with the table is not exact: the entries of a straight-through vector are 0 and 1 up to rounding, and
    autocast rounds the table."""
    model = classifier(name)
    _, one_hot = straight_through()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = embed_one_hot(model, one_hot)
        rounded = one_hot @ word_embeddings(model).weight
    assert torch.equal(found, embed(model, one_hot.argmax(-1)))
    assert not torch.equal(rounded.float(), found)


@pytest.mark.parametrize("name", ["bert", "deberta-v2"])
def test_the_gradient_of_one_hot_vectors_and_of_the_table_is_that_of_their_product(name: str) -> None:
    model = copy.deepcopy(classifier(name))
    table = word_embeddings(model).weight
    scores, one_hot = straight_through()
    weights = torch.randn(6, table.shape[1], generator=torch.Generator().manual_seed(4))
    expected = torch.autograd.grad(((one_hot @ table) * weights).sum(), [scores, table], retain_graph=True)
    found = torch.autograd.grad((embed_one_hot(model, one_hot) * weights).sum(), [scores, table])
    assert expected[0].abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_generator_gets_its_gradient_through_the_embeddings_of_two_models_of_different_widths() -> None:
    """Its choices at masked positions, the original words elsewhere."""
    student, teacher = classifier("bert"), classifier("electra")
    inputs = tokens(student)
    masked = torch.zeros(3, 9, dtype=torch.bool)
    masked[:, [1, 3]] = True
    scores, one_hot = straight_through()
    logits = []
    for model in (student, teacher):
        embeds = embed(model, inputs["input_ids"]).masked_scatter(masked[:, :, None], embed_one_hot(model, one_hot))
        logits.append(forward(model, {**inputs, "inputs_embeds": embeds})[0])
    nn.functional.mse_loss(*logits).backward()
    assert scores.grad is not None
    assert (scores.grad.abs().sum(-1) > 0).all()


def test_vectors_over_fewer_tokens_than_the_table_has_are_read_and_over_more_refused() -> None:
    """Tables often have more rows than the vocabulary has tokens."""
    model = classifier("bert")
    scores, one_hot = straight_through(size=50)
    embed_one_hot(model, one_hot).sum().backward()
    assert scores.grad is not None and scores.grad.shape == (6, 50)
    with pytest.raises(
        ValueError, match=r"^bert: the vectors choose among 61 tokens, but it has embeddings of 60; choose models of"
    ):
        embed_one_hot(model, torch.eye(61))


# --- architectures that read tokens alone -----------------------------------------------------------------


def test_a_decoder_whose_own_head_finds_the_last_token_by_id_is_refused_and_one_with_a_mean_head_is_not() -> None:
    own, mean = (random_classifier("gpt2", head, pad_token_id=0) for head in HEADS)
    inputs = tokens(own)
    with pytest.raises(
        ValueError,
        match=r"^gpt2: it does not take embeddings in the place of tokens, because its classifier finds the ",
    ):
        forward(own, embedded(own, inputs))
    with torch.no_grad():
        unchecked = own(**embedded(own, inputs)).logits  # reads padding
        assert not torch.allclose(unchecked, forward(own, inputs)[0], atol=1e-3)
        assert same_bits(forward(mean, embedded(mean, inputs)), forward(mean, inputs))


@pytest.mark.parametrize("name", ["esm", "esmc"])
def test_an_architecture_that_gives_other_outputs_for_embeddings_is_refused_by_name(name: str) -> None:
    assert name in READS_TOKENS_ONLY
    model = random_classifier(name, pad_token_id=1)
    with pytest.raises(ValueError, match=rf"^{name}: it does not take embeddings in the place of tokens, because "):
        forward(model, embedded(model, tokens(model)))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("albert", {"embedding_size": 8}),
        ("convbert", {"embedding_size": 16}),
        ("deberta", {}),
        ("rembert", {"input_embedding_size": 8, "output_embedding_size": 16}),
        ("squeezebert", {"embedding_size": 16}),
        ("xlm-roberta", {}),
        ("opt", {"word_embed_proj_dim": 8, "ffn_dim": 24, "pad_token_id": 0}),
    ],
)
def test_other_architectures_give_the_same_outputs_for_embeddings(name: str, config: dict[str, object]) -> None:
    model = random_classifier(name, "mean", **config)
    inputs = tokens(model)
    with torch.no_grad():
        found, expected = (forward(model, given, hidden=True) for given in (embedded(model, inputs), inputs))
    assert same_bits(found, expected)


def test_xlnet_reads_the_last_position_of_embeddings_as_of_tokens() -> None:
    assert "xlnet" not in LAST_TOKEN_BY_ID
    config = AutoConfig.for_model("xlnet", vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=24, num_labels=3)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    inputs = tokens(model, side="left")
    with torch.no_grad():
        assert same_bits(forward(model, embedded(model, inputs)), forward(model, inputs))


# --- wrapped models ---------------------------------------------------------------------------------------


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["roberta", "electra"])
def test_a_model_under_data_parallelism_reads_embeddings_and_trains_its_table(name: str, process_group: None) -> None:
    model = copy.deepcopy(classifier(name, "mean"))
    inputs = tokens(model)
    expected = torch.autograd.grad(loss(forward(model, inputs)[0]), list(model.parameters()))
    parallel = nn.parallel.DistributedDataParallel(model)
    assert set(widths(parallel)) == {16}
    assert word_embeddings(cast(nn.Module, torch.compile(parallel))) is word_embeddings(model)
    for _ in range(2):  # DDP raises in the second step if a parameter had no gradient in the first
        model.zero_grad()
        loss(forward(parallel, embedded(parallel, inputs))[0]).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, gradient)


def test_a_compiled_model_reads_embeddings() -> None:
    model = classifier("roberta")
    compiled = cast(nn.Module, torch.compile(model, dynamic=True, backend="eager"))
    inputs = tokens(model)
    with torch.no_grad():
        assert same_bits(forward(compiled, embedded(compiled, inputs)), forward(model, inputs))
