"""The models that run in a training with generated rows: which they are, what they share, and what is refused."""

import json
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_plannable_assets, write_plannable_model, write_project, write_weights

from pipeline.errors import RequestError
from pipeline.graph.nodes import Edge, Graph, HeldModels, Node
from stages.specs.pretraining import PretrainSpec
from stages.specs.student import Cut, DistilSpec

WORDS = ("[PAD]", "[CLS]", "[MASK]", "good", "bad")
HEAD = {"cls.predictions.bias": (1,)}


def write_model(folder: Path, words: tuple[str, ...] = WORDS, head: bool = False, **config: object) -> Path:
    """A model with a vocabulary of its own, and where ``head`` says so, one that predicts tokens."""
    model = write_plannable_model(folder, **{"vocab_size": len(words), **config})
    vocabulary = {word: number for number, word in enumerate(words)}
    (model / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), "utf-8")
    (model / "tokenizer_config.json").write_text('{"mask_token": "[MASK]"}', "utf-8")
    if head:
        layers = {f"bert.encoder.layer.{layer}.output.weight": (1,) for layer in range(4)}
        write_weights(model / "model.safetensors", {**layers, **HEAD})
    return model


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    folder = write_plannable_assets(tmp_path / "assets", ("tiny",))
    write_model(folder / "words")
    (tmp_path / "bank.txt").write_text("".join(f"the text of number {row}\n" for row in range(50)), "utf-8")
    return folder


def graph(assets: Path, /, **changes: object) -> Graph:
    teacher = {"model": str(assets / "words"), "finetune": {}}
    student = {"label": "two", "cut": {"of": "teacher", "layers": [1, 2]}}
    train = {"epochs": 2, "max_length": 16, "batch_size": 4}
    given = {"teacher": teacher, "student": student, "method": "mate-kd", "train": train, **changes}
    return graph_of(assets, assets.parent / "runs", **given)[1]


def nodes(assets: Path, /, **changes: object) -> dict[str, Node]:
    return dict(nodes_by_name(graph(assets, **changes)))


def refusal(assets: Path, /, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        graph(assets, **changes)
    line = str(caught.value)
    assert "\n" not in line
    return line


def sources(node: Node) -> dict[str, str]:
    """The names of a node's inputs -> the node or the model that each is."""
    return {name: given.source.name if isinstance(given, Edge) else given.about for name, given in node.inputs.items()}


def test_a_training_with_generated_rows_reads_its_teachers_model_and_a_generator_beside_the_store(assets: Path) -> None:
    found = nodes(assets, method=["vanilla-kd", "mate-kd"])
    live = {"live": "finetune@tiny", "generator": "pretrain/generator@tiny"}
    mate = sources(found["distil/mate-kd/two/0@tiny"])
    assert mate == sources(found["distil/vanilla-kd/two/0@tiny"]) | live
    assert mate["outputs"] == "teach@tiny"


def test_each_of_several_teachers_runs_with_its_own_order_of_labels(assets: Path) -> None:
    models = {"second": {"model": str(assets / "words"), "method": "no-kd"}}
    teacher = {"model": str(assets / "words"), "labels": ["good", "bad"]}
    (assets / "words" / "config.json").write_text(
        json.dumps(
            {
                **json.loads((assets / "words" / "config.json").read_text("utf-8")),
                "architectures": ["BertForSequenceClassification"],
            }
        ),
        "utf-8",
    )
    method = {"use": "mate-kd", "taught_by": ["teacher", "second"]}
    node = nodes(assets, teacher=teacher, models=models, method=method)["distil/mate-kd/two/0@tiny"]
    assert {name: source for name, source in sources(node).items() if name.startswith("live")} == {
        "live/0": str(assets / "words"),
        "live/1": "distil/second@tiny",
    }
    assert isinstance(node.spec, DistilSpec) and node.spec.live_label_orders == ((1, 0), None)


def test_without_an_entry_the_generator_is_made_of_the_teachers_first_layers_and_shared_by_all_tasks_of_a_bank(
    assets: Path,
) -> None:
    bank = {"files": [str(assets.parent / "bank.txt")], "encoder": "tfidf"}
    (generator,) = (node for node in graph(assets, bank=bank).nodes if node.role == "pretrain")
    spec = generator.spec
    assert generator.name == "pretrain/generator" and generator.task == ""
    assert isinstance(spec, PretrainSpec) and spec.start == Cut(layers=(0, 1))
    assert (spec.masking.share, spec.masking.masked, spec.steps) == (0.3, 1.0, 2000)
    assert sources(generator)["start"] == str(assets / "words")
    of_rows = nodes(assets)["pretrain/generator@tiny"]
    assert sources(of_rows)["corpus"] == "corpus@tiny"


def test_a_recipe_may_name_an_entry_of_models_or_a_masked_language_model(assets: Path) -> None:
    written = write_model(assets / "writer", head=True)
    models = {
        "generator": {"cut": {"of": "base", "layers": [4]}, "pretrain": "task"},
        "other": {"cut": {"of": "base", "layers": [1]}, "pretrain": "task"},
    }
    methods = [
        "mate-kd",
        {"use": "mate-kd", "label": "other", "generator": "other"},
        {"use": "mate-kd", "label": "given", "generator": str(written)},
    ]
    found = nodes(assets, models=models, method=methods)
    assert {
        label: sources(found[f"distil/{label}/two/0@tiny"])["generator"] for label in ("mate-kd", "other", "given")
    } == {
        "mate-kd": "pretrain/generator@tiny",
        "other": "pretrain/other@tiny",
        "given": str(written),
    }


def test_a_worker_holds_the_student_and_the_generator_with_their_optimizers_and_the_teacher_without(
    assets: Path,
) -> None:
    found = nodes(assets, method=["vanilla-kd", "mate-kd"])
    base = found["distil/vanilla-kd/two/0@tiny"].held
    mate = found["distil/mate-kd/two/0@tiny"].held
    assert base is not None and mate is not None
    assert base == HeldModels(base.student)
    assert mate.teachers > 0 and mate.generator > 0
    assert mate.bytes == 4 * (mate.student + mate.generator) + mate.teachers
    assert "live teachers" in mate.describe() and "live teachers" not in base.describe()


# --- what is refused --------------------------------------------------------------------------------


def test_a_training_whose_steps_are_all_the_generators_is_refused(assets: Path) -> None:
    line = refusal(assets, train={"epochs": 1, "max_length": 16, "batch_size": 64})
    assert line.startswith(
        "task tiny, method mate-kd: data.generator_steps: 10, but 1 epochs are 2 steps, so that none"
    )


def test_generated_rows_that_no_epoch_would_use_are_refused(assets: Path) -> None:
    line = refusal(assets, method={"use": "mate-kd", "training": {"teacher_weight": 0.0}})
    assert "data: generated, but the teacher's logits have no weight in any of 2 epochs" in line


def test_layers_of_a_bilstm_are_not_contrasted(assets: Path) -> None:
    line = refusal(assets, method="cilda", student={"label": "small", "bilstm": {}})
    assert "data.contrast: the student small is a BiLSTM, which has no layers to contrast" in line


def test_tokenizers_that_mark_the_texts_of_a_pair_in_other_ways_are_refused(assets: Path) -> None:
    task = {"name": "tiny", "text": ["sentence", "second"], "labels": ["bad", "good"]}
    template = {"type": "TemplateProcessing", "pair": [{"Sequence": {"type_id": number}} for number in (0, 1)]}
    for name, inputs in (("words", ["input_ids", "token_type_ids"]), ("unmarked", ["input_ids"])):
        folder = assets / name if name == "words" else write_model(assets / name)
        content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        (folder / "tokenizer.json").write_text(json.dumps({**content, "post_processor": template}), "utf-8")
        settings = {"mask_token": "[MASK]", "model_input_names": inputs}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    line = refusal(assets, task=task, student={"label": "two", "model": str(assets / "unmarked")})
    assert "taught_by: the tokenizer of teacher marks the texts of a pair in another way than the student's" in line


def test_a_generator_of_another_vocabulary_is_refused_with_a_token_that_differs(assets: Path) -> None:
    other = write_model(assets / "other", words=("[PAD]", "[CLS]", "[MASK]", "bad", "good"), head=True)
    line = refusal(assets, method={"use": "mate-kd", "generator": str(other)})
    assert line.startswith(f"task tiny, method mate-kd: generator: {other} reads generated rows as token ids")
    assert "has another vocabulary (the token 'bad' has id 3" in line and line.endswith("give models of one vocabulary")


def test_a_teacher_of_another_vocabulary_is_refused(assets: Path) -> None:
    other = write_model(assets / "other", words=("[PAD]", "[CLS]", "[MASK]", "bad", "good"))
    line = refusal(assets, student={"label": "two", "model": str(other)})
    assert line.startswith("task tiny, method mate-kd: taught_by: teacher reads generated rows as token ids")


def test_a_generator_without_a_head_that_predicts_tokens_is_refused(assets: Path) -> None:
    layers = {f"bert.encoder.layer.{layer}.output.weight": (1,) for layer in range(4)}
    headless = write_model(assets / "headless")
    write_weights(headless / "model.safetensors", layers)
    line = refusal(assets, method={"use": "mate-kd", "generator": str(headless)})
    assert f"generator: {headless}: is no masked language model (bert without a head that predicts words)" in line


def test_a_teacher_that_takes_no_embeddings_is_refused(assets: Path) -> None:
    decoder = write_model(assets / "decoder", model_type="gpt2", n_embd=32, n_layer=4, n_head=4, n_positions=64)
    changes = {"teacher": {"model": str(decoder), "finetune": {}}, "student": {"model": str(assets / "words")}}
    models = {"generator": {"model": str(assets / "words"), "pretrain": "task"}}
    line = refusal(assets, models=models, **changes)
    assert "data: generated changes word embeddings, which the teacher teacher (gpt2) does not take" in line


def test_generated_rows_without_a_teacher_and_a_generator_without_such_rows_are_refused(
    assets: Path, tmp_path: Path
) -> None:
    for method, message in (
        ({"use": "no-kd", "data": "generated"}, "follow a teacher's logits, targets is hard; use targets: teacher"),
        ({"use": "vanilla-kd", "generator": "writer"}, "generator: writer, but the method has no generated rows;"),
    ):
        result = write_project(tmp_path / str(method["use"]), assets, method=method)("plan")
        assert result.code == 2 and message in result.err and result.err.count("\n") == 1


def test_a_generator_that_is_an_entry_without_a_masked_language_model_is_refused(assets: Path, tmp_path: Path) -> None:
    models = {"generator": {"cut": {"of": "teacher", "layers": [1]}, "method": "no-kd"}}
    result = write_project(tmp_path / "project", assets, models=models, method="mate-kd")("plan")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "method: the generator is models.generator, which has no pretrain" in result.err
