"""Carry-over: what an earlier store of the same teacher says is not asked again; what another teacher, tokenizer,
layer or number type says is never taken for it. Of a bank that grows, new texts alone are embedded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import (
    CommandResult,
    Project,
    change_weights,
    graph_of,
    nodes_by_name,
    write_artifact,
    write_plannable_assets,
    write_plannable_model,
    write_project,
)
from safetensors.numpy import load_file, save_file

from pipeline.graph.nodes import Node
from pipeline.plan.reuse import priors, reusable_records
from pipeline.storage.directory import Directory
from stages.corpus.reader import read_split
from stages.outputs.reader import read_columns
from stages.retrieval.embeddings import read_embeddings

NAMES = ["logits", "hidden_00", "hidden_04"]


def project_in(folder: Path, assets: Path) -> Project:
    """A project whose teacher was fine-tuned elsewhere, with data of its own; both lie in ``folder``."""
    return write_project(
        folder / "project",
        assets,
        teacher={"model": str(folder / "teacher")},
        method="vanilla-kd",
        data={"source": str(folder / "data"), "holdout": 0},
        train={"epochs": 1, "max_length": 16, "select": "dev"},
    )


@pytest.fixture(scope="module")
def built_once(
    assets: Path, first_run: tuple[Project, CommandResult], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of such a project in which everything has been built. Tests copy it and leave it as it is."""
    folder = tmp_path_factory.mktemp("built-once")
    shutil.copytree(first_run[0].artifact("finetune@tiny") / "model", folder / "teacher")
    shutil.copytree(assets / "data", folder / "data")
    assert store_facts(project_in(folder, assets))["carried"] == 0
    return folder


@pytest.fixture
def project(built_once: Path, assets: Path, tmp_path: Path) -> Project:
    """A copy of that project, to be changed, in which nothing is left to build."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    made = project_in(tmp_path, assets)
    assert {step["action"] for step in made.plan().values()} == {"reuse"}
    return made


def store_facts(project: Project, *options: str) -> dict[str, int]:
    """The facts of the store after a run."""
    result = project("run", "--inline", *options)
    assert result.code == 0, result.err
    newest = max(
        (json.loads(path.read_text()) for path in project.storage.glob("teach/*/record.json")),
        key=lambda record: Path(project.storage / "teach" / record["key"] / "record.json").stat().st_mtime_ns,
    )
    facts: dict[str, int] = newest["facts"]
    return facts


def train_file(project: Project) -> Path:
    return project.folder.parent / "data" / "tiny" / "train.parquet"


def stored(project: Project) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """The keys of train, and the outputs in the store of the present recipe."""
    plan = project.plan()
    corpus, store = (
        next((project.storage / stage / str(plan[name]["key"])).glob("0*"))
        for stage, name in (("corpus", "corpus@tiny"), ("teach", "teach@tiny"))
    )
    keys = read_split(corpus, "train").keys
    return keys, read_columns(store, NAMES, keys)


def test_new_rows_are_computed_and_the_others_copied_bit_by_bit(project: Project) -> None:
    old_keys, old = stored(project)
    table = pq.read_table(train_file(project))
    more = pa.table({"sentence": ["a new good film", "another bad one"], "label": [1, 0]}, schema=table.schema)
    pq.write_table(
        pa.concat_tables([table.slice(3), more]).take(list(range(len(table) - 1))[::-1]), train_file(project)
    )
    facts = store_facts(project)
    distinct = len(set(old_keys))
    assert facts["computed"] == 2 and facts["carried"] == facts["rows"] - 2 and facts["carried"] >= distinct - 3
    keys, found = stored(project)
    places = {key: row for row, key in enumerate(old_keys)}
    kept = [(row, places[key]) for row, key in enumerate(keys) if key in places]
    assert len(kept) == len(keys) - 2
    for name in NAMES:
        for now, was in kept:
            assert np.array_equal(found[name][now], old[name][was]), name


def test_the_same_rows_in_another_order_are_all_copied(project: Project) -> None:
    table = pq.read_table(train_file(project))
    pq.write_table(table.take(list(range(len(table)))[::-1]), train_file(project))
    plan = project.plan()["teach@tiny"]
    assert plan["action"] == "build" and "rows of teach@tiny may be carried over" in str(plan["why"])
    facts = store_facts(project)
    assert (facts["computed"], facts["carried"]) == (0, facts["rows"])


def test_fewer_layers_are_copied_and_more_are_not(project: Project) -> None:
    assert store_facts(project, "--set", "store.layers=[0, 4]")["computed"] == 0
    for path in (project.storage / "teach").iterdir():
        record = json.loads((path / "record.json").read_text())
        if record["spec"]["layers"] == "all":
            shutil.rmtree(path)
    facts = store_facts(project, "--set", "store.layers=[0, 2, 4]")
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


@pytest.mark.parametrize(
    "change", ["store.pooling=cls", "store.precision=float32", "store.precision=int8", "store.compute=bfloat16"]
)
def test_another_pooling_or_number_type_is_computed_again(project: Project, change: str) -> None:
    facts = store_facts(project, "--set", change)
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


def test_one_pooling_is_copied_from_a_store_of_both(project: Project) -> None:
    assert store_facts(project, "--set", "store.pooling=both")["carried"] == 0
    shutil.rmtree(
        next(iter(project.storage.glob(f"teach/{project.records()['teach@tiny']['key']}"))), ignore_errors=True
    )
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(1), train_file(project))
    assert store_facts(project)["computed"] == 0


def test_int8_codes_are_copied_with_their_scales(project: Project) -> None:
    option = ("--set", "store.precision=int8")
    store_facts(project, *option)
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(2), train_file(project))
    facts = store_facts(project, *option)
    assert facts["computed"] == 0 and facts["carried"] == facts["rows"]
    shards = project.storage.glob("teach/*/0001/shard-00000.parquet")
    *_, first, second = map(pq.read_table, sorted(shards, key=lambda path: path.stat().st_mtime_ns))
    was = dict(zip(first["row_key"].to_pylist(), first["hidden_02"].to_pylist(), strict=True))
    now = dict(zip(second["row_key"].to_pylist(), second["hidden_02"].to_pylist(), strict=True))
    assert all(was[key] == codes for key, codes in now.items())


def test_with_another_max_length_no_row_is_copied(project: Project) -> None:
    facts = store_facts(project, "--set", "train.max_length=12")
    assert facts["carried"] == 0


def test_with_other_weights_no_row_is_copied(project: Project) -> None:
    weights = project.folder.parent / "teacher" / "model.safetensors"
    changed = load_file(weights)
    changed["classifier.bias"] = changed["classifier.bias"] + 1
    save_file(changed, weights, {"format": "pt"})
    facts = store_facts(project)
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


def test_with_another_tokenizer_no_row_is_copied(project: Project) -> None:
    path = project.folder.parent / "teacher" / "tokenizer_config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "do_lower_case": not document.get("do_lower_case", True)}))
    facts = store_facts(project)
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


def test_a_stage_given_by_name_computes_every_row(project: Project) -> None:
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(1), train_file(project))
    facts = store_facts(project, "--stage", "teach")
    assert facts["carried"] == 0


def test_rows_of_a_damaged_store_are_computed(project: Project) -> None:
    shard = next(project.storage.glob("teach/*/0001/shard-00000.parquet"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(1), train_file(project))
    facts = store_facts(project)
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


def test_the_record_names_the_stores_from_which_rows_may_be_copied(project: Project) -> None:
    old = project.records()["teach@tiny"]["key"]
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(1), train_file(project))
    store_facts(project)
    documents = [json.loads(path.read_text()) for path in project.storage.glob("teach/*/record.json")]
    (new,) = [document for document in documents if document["key"] != old]
    assert new["priors"] == [old]


def test_with_changed_data_the_fine_tuned_teacher_changes_and_no_row_is_copied(
    built: Project, tmp_path: Path, assets: Path
) -> None:
    shutil.copytree(assets / "data", tmp_path / "data")
    path = tmp_path / "data" / "tiny" / "train.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    assert store_facts(built, "--set", f"data.source={tmp_path / 'data'}", "--set", "seeds=[0]")["carried"] == 0


def test_of_a_rebuilt_teacher_no_row_is_copied(first_run: tuple[Project, CommandResult], tmp_path: Path) -> None:
    """A rebuilt teacher has the same key but may have other weights, so its files are compared."""
    project = Project(tmp_path / "made")
    shutil.copytree(first_run[0].folder, project.folder)
    layers = ("--set", "store.layers=[0, 4]", "--set", "seeds=[0]")
    plan = project.plan(*layers)["teach@tiny"]
    assert "rows of teach@tiny may be carried over" in str(plan["why"])
    record = project.artifact("finetune@tiny").parent / "record.json"
    document = json.loads(record.read_text())
    for file in document["files"]:
        if file["path"] == "model/model.safetensors":
            file["sha256"] = "0" * 64
    record.write_text(json.dumps(document))
    assert "carried over" not in str(project.plan(*layers)["teach@tiny"]["why"])
    assert store_facts(project, *layers)["carried"] == 0


def test_a_store_that_cannot_be_read_is_skipped(project: Project) -> None:
    store = next(project.storage.glob("teach/*/0001/store.json"))
    store.write_bytes(bytes(store.stat().st_size))
    table = pq.read_table(train_file(project))
    pq.write_table(table.slice(1), train_file(project))
    facts = store_facts(project)
    assert facts["carried"] == 0 and facts["computed"] == facts["rows"]


# --- embeddings of a bank -------------------------------------------------------------------------------

BANK = [f"a sentence of the bank that is number {row}" for row in range(40)]
MORE = [f"one that is new in it, number {row}" for row in range(10)]


def write_bank(project: Project, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts}), project.folder.parent / "bank.parquet")


def embedded(project: Project, *options: str) -> dict[str, object]:
    """The record of the embeddings of the present recipe, after a run."""
    result = project("run", "--inline", *options)
    assert result.code == 0, result.err
    key = project.plan()["embed"]["key"]
    record: dict[str, object] = json.loads((project.storage / "embed" / str(key) / "record.json").read_text("utf-8"))
    return record


def vectors(project: Project, record: dict[str, object]) -> np.ndarray:
    folder = project.storage / "embed" / str(record["key"]) / str(record["attempt"])
    found = read_embeddings(folder)
    return found.gather(np.arange(found.rows))


def facts_of(record: dict[str, object]) -> tuple[int, int]:
    """The numbers of texts that were embedded and copied."""
    facts = record["facts"]
    assert isinstance(facts, dict)
    return facts["embedded"], facts["carried"]


@pytest.fixture(scope="module")
def with_bank(
    assets: Path, first_run: tuple[Project, CommandResult], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, dict[str, object]]:
    """A project with a bank, and the record of its embeddings. Not to be changed."""
    folder = tmp_path_factory.mktemp("banks")
    shutil.copytree(first_run[0].artifact("finetune@tiny") / "model", folder / "teacher")
    made = write_project(
        folder / "project",
        assets,
        teacher={"model": str(folder / "teacher")},
        bank={"files": [str(folder / "bank.parquet")], "encoder": str(assets / "model")},
        method={"use": "knn", "data": {"k": 1}},
        train={"epochs": 1, "max_length": 16},
    )
    write_bank(made, BANK)
    return made, embedded(made)


@pytest.fixture
def growing(with_bank: tuple[Project, dict[str, object]], tmp_path: Path) -> Project:
    """A copy of that project, with texts added at both ends of its bank and one removed."""
    project = Project(tmp_path / "project")
    shutil.copytree(with_bank[0].folder, project.folder)
    written = project.recipe.read_text("utf-8")
    project.recipe.write_text(written.replace(f"{with_bank[0].folder.parent}/bank", f"{tmp_path}/bank"), "utf-8")
    write_bank(project, [*MORE[:4], *BANK[1:], *MORE[4:]])
    return project


def test_only_the_new_texts_of_a_bank_that_grew_are_embedded(
    growing: Project, with_bank: tuple[Project, dict[str, object]]
) -> None:
    before = with_bank[1]
    assert facts_of(before) == (len(BANK), 0) and before["priors"] == []
    plan = growing.plan()
    assert "rows of embed may be carried over" in str(plan["embed"]["why"])
    assert "carried over" not in str(plan["bank"]["why"]) + str(plan["index"]["why"])
    after = embedded(growing)
    assert facts_of(after) == (len(MORE), len(BANK) - 1)
    assert after["priors"] == [before["key"]]
    lineage = growing.storage / "embed" / str(after["key"]) / str(after["attempt"]) / "lineage.json"
    assert json.loads(lineage.read_text("utf-8"))["inputs"][f"prior/{str(before['key'])[:12]}"]["name"] == "embed"
    old, new = vectors(*with_bank), vectors(growing, after)
    assert np.array_equal(new[4 : 4 + len(BANK) - 1], old[1:])
    assert np.abs(new[:4] - old[:4]).max() > 0


def test_embeddings_given_by_name_are_all_computed(growing: Project) -> None:
    after = embedded(growing, "--stage", "embed")
    assert facts_of(after) == (len(MORE) + len(BANK) - 1, 0)
    assert after["priors"] == []


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    assets = write_plannable_assets(tmp_path / "paper")
    for name in ("encoder", "other"):
        write_plannable_model(assets / name)
    change_weights(assets / "other")
    shutil.copytree(assets / "encoder", assets / "moved")
    (assets / "bank.txt").write_text("\n".join(BANK), "utf-8")
    (assets / "grown.txt").write_text("\n".join([*BANK, *MORE]), "utf-8")
    return assets


def embeddings_of(paper: Path, file: str, encoder: str, **settings: object) -> Node:
    given = encoder if encoder == "tfidf" else str(paper / encoder)
    bank = {"files": [str(paper / file)], "encoder": given, **settings}
    return nodes_by_name(graph_of(paper, paper / "runs", method="knn", bank=bank)[1])["embed"]


@pytest.mark.parametrize(
    ("encoder", "settings", "serves"),
    [
        ("encoder", {}, True),
        ("moved", {}, True),
        ("encoder", {"index": {"kind": "exact"}, "min_words": 2}, True),
        ("other", {}, False),
        ("encoder", {"pooling": "cls"}, False),
        ("encoder", {"max_length": 32}, False),
        ("tfidf", {}, False),
    ],
)
def test_embeddings_are_copied_for_the_same_encoder_with_the_same_settings_only(
    paper: Path, encoder: str, settings: dict[str, object], serves: bool
) -> None:
    storage = Directory(paper / "runs")
    before = write_artifact(storage, embeddings_of(paper, "bank.txt", "encoder"))
    node = embeddings_of(paper, "grown.txt", encoder, **settings)
    found = priors(reusable_records(storage, "embed"), node, storage, {})
    assert [record.key for record in found] == ([before.key] if serves else [])


def test_tf_idf_depends_on_all_texts_and_copies_nothing(paper: Path) -> None:
    storage = Directory(paper / "runs")
    write_artifact(storage, embeddings_of(paper, "bank.txt", "tfidf"))
    node = embeddings_of(paper, "grown.txt", "tfidf")
    assert priors(reusable_records(storage, "embed"), node, storage, {}) == ()


def test_embeddings_are_not_copied_from_themselves_nor_from_a_store(paper: Path) -> None:
    storage, node = Directory(paper / "runs"), embeddings_of(paper, "bank.txt", "encoder")
    write_artifact(storage, node)
    assert priors(reusable_records(storage, "embed"), node, storage, {}) == ()
    bank = {"files": [str(paper / "bank.txt")], "encoder": str(paper / "encoder")}
    store = nodes_by_name(graph_of(paper, storage, method="knn", bank=bank)[1])["teach@tiny"]
    assert priors(reusable_records(storage, "embed"), store, storage, {}) == ()


def test_other_settings_of_an_encoder_are_computed_again(growing: Project) -> None:
    result = growing("run", "--inline", "--set", "bank.pooling=cls")
    assert result.code == 0, result.err
    records = [json.loads(path.read_text()) for path in growing.storage.glob("embed/*/record.json")]
    (new,) = [record for record in records if record["spec"]["encoder"]["pooling"] == "cls"]
    assert facts_of(new) == (len(MORE) + len(BANK) - 1, 0)
    assert new["priors"] == []
