"""Model folders that no stage can use are refused while planning, in one line, in each field that names a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_weights

from pipeline.errors import RequestError
from pipeline.graph.external.digests import Digests
from stages.specs.candidates import RewriteSpec, WordByWord

Spoil = Callable[[Path], object]

VOCABULARY = 20
WIDTH = 32
DEPTH = 4
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "hidden_act": "gelu",
}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    assets = write_plannable_assets(tmp_path / "assets")
    write_model(assets / "encoder")
    (assets / "bank.txt").write_text("".join(f"a sentence of the bank, number {row}\n" for row in range(50)), "utf-8")
    return assets


def write_model(folder: Path, prefix: str = "", layers: int = DEPTH, **config: object) -> Path:
    """A folder of consistent files: the weights' header has an embedding for each token and a tensor for each layer."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}), "utf-8")
    write_weights(folder / "model.safetensors", shapes(prefix, layers))
    vocabulary = {f"word{number}": number for number in range(VOCABULARY - 2)}
    write_tokenizer(folder, vocabulary, [{"id": VOCABULARY - 1, "content": "[MASK]"}])
    return folder


def shapes(prefix: str = "", layers: int = DEPTH) -> dict[str, tuple[int, ...]]:
    tensors = {f"{prefix}encoder.layer.{layer}.output.dense.weight": (WIDTH, WIDTH) for layer in range(layers)}
    extra = {f"{prefix}pooler.dense.bias": (WIDTH,), f"{prefix}embeddings.position_ids": (1, 512)}
    return {f"{prefix}embeddings.word_embeddings.weight": (VOCABULARY, WIDTH), **tensors, **extra}


def write_tokenizer(folder: Path, vocabulary: object, added: list[dict[str, object]]) -> None:
    content = {"added_tokens": added, "model": {"type": "WordPiece", "vocab": vocabulary}}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")


def refusal(assets: Path, **changes: object) -> str:
    """The one line in which a recipe is refused while planning."""
    with pytest.raises(RequestError) as caught:
        graph_of(assets, assets.parent / "runs", **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def taught_by(model: Path) -> dict[str, Any]:
    return {"teacher": {"model": str(model), "finetune": {"epochs": 1}}}


def rewriter(model: Path, by: str = "masked") -> dict[str, Any]:
    models = {"there": str(model), "back": str(model)} if by == "translated" else {"model": str(model)}
    maker = {"by": by, **models}
    return {"method": [{"use": "knn", "candidates": "w"}], "candidates": {"w": maker}}


# --- what is spoilt -------------------------------------------------------------------------------


def cut(model: Path) -> None:
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[: len(content) - 1])


def lengthen(model: Path) -> None:
    (model / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes() + b"\0")


def weights(content: bytes) -> Spoil:
    return lambda model: (model / "model.safetensors").write_bytes(content)


def config(**changes: object) -> Spoil:
    return lambda model: (model / "config.json").write_text(json.dumps({**CONFIG, **changes}), "utf-8")


def tokenizer(text: str) -> Spoil:
    return lambda model: (model / "tokenizer.json").write_text(text, "utf-8")


def lose_layer(model: Path) -> None:
    kept = {name: shape for name, shape in shapes().items() if ".layer.2." not in name}
    write_weights(model / "model.safetensors", kept)


def lose_shard(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model-00001-of-00002.safetensors")
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}), "utf-8")


SPOILT = {
    "cut": (cut, "model.safetensors: is shorter than its header says ("),
    "longer": (lengthen, "model.safetensors: is longer than its header says ("),
    "empty": (weights(b""), "model.safetensors: has no header of safetensors within its 0 bytes; copy or download it"),
    "text": (weights(b"x" * 1000), "model.safetensors: has no header of safetensors within its 1,000 bytes;"),
    "huge header": (weights((2**62).to_bytes(8, "little") + b"{}"), "has no header of safetensors within its 10 bytes"),
    "odd header": (weights((3).to_bytes(8, "little") + b"[1]"), "has a header that is not that of safetensors;"),
    "no tensors": (weights((2).to_bytes(8, "little") + b"{}"), "holds no tensors; save the model there with save_pre"),
    "lfs": (weights(b"version https://git-lfs.github.com/spec/v1\n"), "pointer of Git LFS and not the file itself;"),
    "lost shard": (lose_shard, "index.json: lists model-00002-of-00002.safetensors, which is not a file beside it;"),
    "lost layer": (lose_layer, "config.json has 4 layers, but the weights lack layer 3 of them; give the config.json"),
    "layers": (config(num_hidden_layers=6), "config.json has 6 layers, but the weights lack layer 5 of them;"),
    "many layers": (config(num_hidden_layers=10**9), "num_hidden_layers: 1000000000, which must be from 1 to 1,000;"),
    "no layers": (config(num_hidden_layers=-3), "config.json has num_hidden_layers: -3, which must be from 1 to 1,000"),
    "words": (config(vocab_size=10), "has vocab_size: 10, but the weights have embeddings of 20 tokens; give the conf"),
    "width": (config(hidden_size=64), "has hidden_size: 64, but the weights have word embeddings of width 32; give"),
    "heads": (config(num_attention_heads=5), "has a width of 32, which is not divisible by its 5 attention heads;"),
    "no heads": (config(num_attention_heads=0), "config.json has num_attention_heads: 0, which must be from 1 to "),
    "activation": (config(hidden_act="zelu"), "config.json has hidden_act: zelu, which is no activation function; did"),
    "tokenizer": (tokenizer("{"), "tokenizer.json: is not JSON; copy or download it again"),
    "token": (tokenizer('{"model": {"vocab": {"a": 99}}}'), "tokenizer.json: has tokens up to id 99, but config.json"),
    "added": (
        tokenizer('{"added_tokens": [{"id": 20}]}'),
        "has tokens up to id 20, but config.json has vocab_size:",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_a_model_folder_that_cannot_be_used_is_refused_while_planning(assets: Path, fault: str) -> None:
    spoil, problem = SPOILT[fault]
    model = write_model(assets / "spoilt")
    graph_of(assets, assets.parent / "runs", **taught_by(model))
    spoil(model)
    line = refusal(assets, **taught_by(model))
    assert line.startswith(f"teacher.model: {model}")
    assert problem in line


@pytest.mark.parametrize(
    ("where", "recipe"),
    [
        ("student a: model", {"student": {"label": "a", "model": "MODEL"}}),
        ("student a: config.model", {"student": {"label": "a", "config": {"model": "MODEL"}}}),
        ("student a: model", {"models": {"a": {"model": "MODEL", "method": "no-kd"}}}),
        ("bank.encoder", {"method": "knn", "bank": {"files": ["BANK"], "encoder": "MODEL"}}),
        ("candidates.w.model", rewriter(Path("MODEL"), "words")),
        ("candidates.w.there", rewriter(Path("MODEL"), "translated")),
    ],
)
def test_every_model_that_a_recipe_names_is_checked(assets: Path, where: str, recipe: dict[str, Any]) -> None:
    model = write_model(assets / "spoilt")
    cut(model)
    text = json.dumps(recipe).replace("MODEL", str(model)).replace("BANK", str(assets / "bank.txt"))
    line = refusal(assets, **json.loads(text))
    assert line.startswith(f"{where}: {model}/model.safetensors: is shorter than its header says")


# --- what is in order -----------------------------------------------------------------------------


def shard(model: Path) -> None:
    tensors = list(shapes().items())
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for name, part in zip(names, (tensors[:3], tensors[3:]), strict=True):
        write_weights(model / name, dict(part))
    files = {tensor: names[number >= 3] for number, (tensor, _) in enumerate(tensors)}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}), "utf-8")
    (model / "model.safetensors").unlink()


def prefix(model: Path) -> None:
    write_weights(model / "model.safetensors", {**shapes("bert."), "classifier.weight": (2, WIDTH)})


def add_layer(model: Path) -> None:
    write_weights(model / "model.safetensors", shapes(layers=DEPTH + 1))


def narrow_embeddings(model: Path) -> None:
    config(model_type="electra", embedding_size=8)(model)
    tables = {"electra.embeddings.word_embeddings.weight": (VOCABULARY, 8)}
    write_weights(model / "model.safetensors", {**shapes("electra."), **tables})


def narrow_input(model: Path) -> None:
    config(model_type="rembert", input_embedding_size=8)(model)
    write_weights(model / "model.safetensors", {"rembert.embeddings.word_embeddings.weight": (VOCABULARY, 8)})


def share_layers(model: Path) -> None:
    config(model_type="albert", embedding_size=WIDTH)(model)
    tensors = {"albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": (WIDTH, WIDTH)}
    write_weights(model / "model.safetensors", {"albert.embeddings.word_embeddings.weight": (20, WIDTH), **tensors})


def name_otherwise(model: Path) -> None:
    config(model_type="xlnet")(model)
    write_weights(model / "model.safetensors", {"transformer.anything": (7,)})


GOOD: dict[str, Spoil] = {
    "sharded": shard,
    "prefix and head": prefix,
    "a layer too many": add_layer,
    "narrow embeddings": narrow_embeddings,
    "narrow input": narrow_input,
    "shared layers": share_layers,
    "unknown names": name_otherwise,
    "small vocabulary": tokenizer('{"model": {"vocab": {"a": 0}}}'),
    "list of tokens": tokenizer('{"model": {"vocab": [["a", -1.0], ["b", -2.0]]}, "added_tokens": [{"id": 19}]}'),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_folder_of_another_form_whose_parts_fit_is_accepted(assets: Path, name: str) -> None:
    model = write_model(assets / "good")
    GOOD[name](model)
    graph_of(assets, assets.parent / "runs", **taught_by(model), student={"label": "a", "model": str(model)})


def test_the_tokens_of_a_tokenizer_are_counted_once_for_its_content(assets: Path) -> None:
    (assets.parent / "runs").mkdir()
    digests = Digests(assets.parent / "runs" / ".identity" / "digests.json")
    first = write_model(assets / "first")
    assert digests.token_count(first / "tokenizer.json") == VOCABULARY
    digests.save()
    copied = shutil.copy(first / "tokenizer.json", assets / "tokenizer.json")
    again = Digests.load(digests.file)
    counts = {name: value for name, value in again.known.items() if name.startswith("tokens|")}
    assert list(counts.values()) == [str(VOCABULARY)]
    assert again.token_count(Path(copied)) == VOCABULARY
    assert {name: value for name, value in again.known.items() if name.startswith("tokens|")} == counts


# --- models and files that rewrite ----------------------------------------------------------------


@pytest.mark.parametrize("by", ["masked", "tinybert"])
def test_a_model_without_a_head_for_masked_words_is_refused(assets: Path, by: str) -> None:
    model = write_model(assets / "plain")
    assert refusal(assets, **rewriter(model, by)) == (
        f"candidates.w.model: {model}: is no masked language model (bert without a head that predicts words); give a "
        "model that was trained as one, such as distilbert-base-uncased"
    )
    head = {"cls.predictions.transform.dense.weight": (WIDTH, WIDTH)}
    write_weights(model / "model.safetensors", {**shapes("bert."), **head})
    graph_of(assets, assets.parent / "runs", **rewriter(model, by))


def test_word_vectors_are_an_input_by_content_and_a_file_of_another_form_is_refused(assets: Path) -> None:
    head = {"cls.predictions.transform.dense.weight": (WIDTH, WIDTH)}
    model, file = write_model(assets / "masked"), assets / "vectors.txt"
    write_weights(model / "model.safetensors", {**shapes("bert."), **head})
    recipe = rewriter(model, "tinybert")
    recipe["candidates"]["w"]["vectors"] = str(file)
    assert refusal(assets, **recipe) == (
        f"candidates.w.vectors: {file} is not a file; give a path, absolute or relative to the current folder"
    )
    file.write_text("good 1 0.5\nfine 1\n", "utf-8")
    assert refusal(assets, **recipe) == (
        f"candidates.w.vectors: {file}: line 2: 'fine 1'; write a word and 2 numbers, with spaces"
    )
    keys = []
    for numbers in ("1 0.5", "1 0.6"):
        file.write_text(f"good {numbers}\n", "utf-8")
        node = nodes_by_name(graph_of(assets, assets.parent / "runs", **recipe)[1])["candidates/w@tiny"]
        assert isinstance(node.spec, RewriteSpec) and node.spec.how == WordByWord()
        keys.append(node.key)
    assert keys[0] != keys[1]


def test_a_model_that_is_no_encoder_decoder_does_not_translate(assets: Path) -> None:
    model = write_model(assets / "plain")
    assert refusal(assets, **rewriter(model, "translated")) == (
        f"candidates.w.there: {model}: is no translation model (bert); give one with an encoder and a decoder"
    )
    settings = {"model_type": "marian", "d_model": WIDTH, "vocab_size": VOCABULARY, "pad_token_id": 19}
    (model / "config.json").write_text(json.dumps(settings), "utf-8")
    write_weights(model / "model.safetensors", {"model.shared.weight": (VOCABULARY, WIDTH)})
    graph_of(assets, assets.parent / "runs", **rewriter(model, "translated"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"good fine\n", "line 1: 'good fine'; write a word, a tab, and its synonyms with commas"),
        (b"", "no synonyms of any single word; write lines of a word, a tab, and its synonyms"),
        (b"\xff\xfe", "byte 0 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_a_file_of_synonyms_that_cannot_be_read_is_refused(assets: Path, content: bytes, problem: str) -> None:
    file = assets / "words.tsv"
    file.write_bytes(content)
    maker = {"by": "words", "synonyms": str(file)}
    recipe: dict[str, Any] = {"method": [{"use": "knn", "candidates": "w"}], "candidates": {"w": maker}}
    assert refusal(assets, **recipe) == f"candidates.w.synonyms: {file}: {problem}"


# --- positions ------------------------------------------------------------------------------------


def test_a_student_that_reads_too_few_tokens_for_any_row_is_to_get_more_positions(assets: Path) -> None:
    start = {"label": "a", "config": {"model": str(assets / "model"), "max_position_embeddings": 3}}
    assert refusal(assets, student=start) == (
        "task tiny: train.max_length: 16, but student a reads at most 3 tokens, and a row has 4 or more; give the "
        "model more positions (max_position_embeddings)"
    )
