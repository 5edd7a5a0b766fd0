"""The nodes of tasks of the kind ``embedding``: their specs and edges, what is shared, and what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import graph_of, nodes_by_name, write_plannable_model, write_weights

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Graph, Node, ReportedModel
from stages.specs.evaluation import SimilaritySpec
from stages.specs.pretraining import PretrainSpec, SentenceEmbedding
from stages.specs.student import Cut, Fresh
from stages.specs.teacher import TeachSpec

TASK = {"name": "pairs", "kind": "embedding", "text": ["a", "b"], "label": "score"}
CUT = {"label": "two", "cut": {"of": "teacher", "layers": [1, 3]}}


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """A sentence encoder of 4 layers, 32 wide, pairs with scores, and a bank of 50 texts."""
    folder = tmp_path / "assets"
    write_modules(write_plannable_model(folder / "model"), "pooling_mode_mean_tokens", "Normalize")
    for split, rows in (("train", 90), ("validation", 30)):
        texts = {name: [f"{split} {row} {name}" for row in range(rows)] for name in ("a", "b")}
        (folder / "data" / "pairs").mkdir(parents=True, exist_ok=True)
        table = pa.table({**texts, "score": [float(row % 6) for row in range(rows)]})
        pq.write_table(table, folder / "data" / "pairs" / f"{split}.parquet")
    (tmp_path / "bank.txt").write_text("".join(f"the text of number {row}\n" for row in range(50)), "utf-8")
    return folder


def write_modules(model: Path, mode: str, *further: str) -> Path:
    """The files that make a model a sentence encoder, with ``further`` kinds of modules."""
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, f"2_{kind}") for kind in further)]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
    (model / "modules.json").write_text(json.dumps(modules), "utf-8")
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps({mode: True}), "utf-8")
    return model


def graph(assets: Path, /, **changes: object) -> Graph:
    recipe = {
        "data": {"source": str(assets / "data")},
        "task": TASK,
        "teacher": {"model": str(assets / "model")},
        "student": CUT,
        "method": "embedding-cosine",
        "bank": {"files": [str(assets.parent / "bank.txt")], "encoder": "tfidf"},
        **changes,
    }
    return graph_of(assets, assets.parent / "runs", **recipe)[1]


def nodes(assets: Path, /, **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph(assets, **changes)))


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def source(node: Node, name: str) -> str:
    given = node.inputs[name]
    assert isinstance(given, Edge)
    return given.source.name


# --- nodes ------------------------------------------------------------------------------------------


def test_a_student_reads_texts_and_the_store_of_the_last_layer_and_is_scored_on_the_pairs(assets: Path) -> None:
    found = nodes(assets, train={"epochs": 4, "batch_size": 8, "learning_rate": 1e-3, "max_length": 16}, seeds=[0, 1])
    name = "embedding-cosine/two/1"
    student = found[f"pretrain/{name}@pairs"]
    assert student.spec == PretrainSpec(
        start=Cut(layers=(0, 2)),
        embedding=SentenceEmbedding(layer=4, normalize=True),
        max_length=16,
        epochs=4,
        batch_size=8,
        learning_rate=1e-3,
        seed=1,
    )
    assert student.subject == ReportedModel("embedding-cosine", "two", 1) and student.held is not None
    assert (source(student, "texts"), source(student, "outputs")) == ("texts/bank", "teach/teacher:bank")
    store = found["teach/teacher:bank"]
    assert isinstance(store.spec, TeachSpec)
    assert (store.spec.layers, store.spec.pooling, store.spec.logits) == ((4,), "mean", False)
    scores = found[f"evaluate/{name}@pairs"]
    assert scores.spec == SimilaritySpec(pooling="mean") and source(scores, "corpus") == "corpus@pairs"
    assert scores.subject == student.subject
    assert found["evaluate/teacher@pairs"].subject == ReportedModel("teacher", "model", 0)
    assert not {"corpus", "tokenizer"} & set(student.inputs), "no row with a label is an input of a training"


def test_all_methods_students_and_seeds_read_one_store(assets: Path) -> None:
    found = graph(
        assets,
        method=["embedding-cosine", "embedding-squared", "embedding-similarities"],
        student=[CUT, {"label": "one", "cut": {"of": "teacher", "layers": [4]}}],
        seeds=[0, 1],
    )
    trainings = [node for node in found.nodes if node.role == "pretrain"]
    assert len({node.key for node in trainings}) == 12
    assert len({node.input_keys["outputs"] for node in trainings}) == 1
    assert len([node for node in found.nodes if isinstance(node.spec, TeachSpec)]) == 1


def test_the_rows_and_bytes_of_all_nodes_are_planned(assets: Path) -> None:
    found = nodes(assets)
    rows = {name: node.rows.value for name, node in found.items()}
    assert (rows["texts/bank"], rows["teach/teacher:bank"]) == (50, 50)
    assert rows["pretrain/embedding-cosine/two/0@pairs"] == 47, "1 in 20 is held out"
    assert rows["evaluate/teacher@pairs"] == 30
    assert found["pretrain/embedding-cosine/two/0@pairs"].bytes.value


def test_pooling_and_scaling_are_those_of_the_teachers_files_and_else_those_of_the_store(assets: Path) -> None:
    cls = write_modules(write_plannable_model(assets / "cls"), "pooling_mode_cls_token")
    plain = write_plannable_model(assets / "plain")
    for model, pooling, expected in (
        (assets / "model", "cls", ("mean", True)),
        (cls, "mean", ("cls", False)),
        (plain, "cls", ("cls", False)),
        (plain, "mean", ("mean", False)),
    ):
        found = nodes(assets, teacher={"model": str(model)}, store={"pooling": pooling})
        spec = found["pretrain/embedding-cosine/two/0@pairs"].spec
        assert isinstance(spec, PretrainSpec) and spec.embedding is not None
        assert (spec.embedding.pooling, spec.embedding.normalize) == expected
        assert found["evaluate/teacher@pairs"].spec == SimilaritySpec(pooling=expected[0])


def test_students_of_another_width_have_a_projection_or_compare_similarities(assets: Path) -> None:
    narrow = {
        "label": "narrow",
        "config": {"model": str(assets / "model"), "hidden_size": 16, "num_attention_heads": 2},
    }
    line = refusal(assets, student=narrow)
    assert line.startswith("task pairs, method embedding-cosine: embedding.projection: none, but the embeddings of ")
    assert "student narrow are 16 wide and the teacher's 32; give projection: kept or dropped" in line
    for method in ({"use": "embedding-cosine", "embedding": {"projection": "kept"}}, "embedding-similarities"):
        found = nodes(assets, student=narrow, method=method)
        (student,) = [node for node in found.values() if node.role == "pretrain"]
        assert isinstance(student.spec, PretrainSpec) and isinstance(student.spec.start, Fresh)


def test_a_student_may_start_from_a_model_that_was_pretrained_on_the_teachers_states(assets: Path) -> None:
    general = {
        "cut": {"of": "teacher", "layers": [1, 2]},
        "pretrain": {"texts": "bank", "taught_by": "teacher", "states": "pick"},
    }
    found = nodes(assets, models={"general": general}, student={"start": "general"})
    assert source(found["pretrain/embedding-cosine/general/0@pairs"], "start") == "pretrain/general"


# --- what is refused --------------------------------------------------------------------------------


def test_a_teacher_whose_embeddings_cannot_be_stored_is_refused(assets: Path) -> None:
    dense = write_modules(write_plannable_model(assets / "dense"), "pooling_mode_mean_tokens", "Dense")
    (dense / "2_Dense").mkdir()
    (dense / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.linear.Identity"}')
    write_weights(dense / "2_Dense" / "model.safetensors", {"linear.weight": (1,)})
    line = refusal(assets, teacher={"model": str(dense)})
    assert line.startswith("teacher.model: ") and "has a linear map after its pooling (2_Dense)" in line
    other = write_modules(write_plannable_model(assets / "max"), "pooling_mode_max_tokens")
    assert "pooling by max_tokens" in refusal(assets, teacher={"model": str(other)})


def test_models_that_read_fewer_tokens_or_have_no_state_for_each_are_refused(assets: Path) -> None:
    short = write_plannable_model(assets / "short", max_position_embeddings=32)
    line = refusal(assets, teacher={"model": str(short)}, train={"max_length": 64})
    assert line.startswith("train.max_length: 64, but the teacher ") and "reads at most 32 tokens" in line
    assert "has no layer 9" in refusal(assets, student={"cut": {"of": "teacher", "layers": [9]}})
    funnel = write_plannable_model(assets / "funnel", model_type="funnel")
    assert "its states cannot be compared" in refusal(
        assets, teacher={"model": str(funnel)}, student={"model": str(assets / "model")}
    )


def test_pairs_whose_label_is_no_score_are_refused_before_work_starts(assets: Path) -> None:
    table = pa.table({"a": ["x", "y"], "b": ["z", "w"], "score": ["high", "low"]})
    pq.write_table(table, assets / "data" / "pairs" / "validation.parquet")
    line = refusal(assets)
    assert line.startswith("data") and "high" in line
    pq.write_table(pa.table({"a": ["x"], "b": ["z"]}), assets / "data" / "pairs" / "validation.parquet")
    assert "score" in refusal(assets)
