"""Rows and bytes of what is not built follow from the records of what is."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from project import graph_of, record_for, write_plannable_assets, write_plannable_model

from pipeline.artifacts.record import Record
from pipeline.graph.nodes import Graph, Node, Quantity
from pipeline.plan.quantities import SizeOfNode, sizes_of

CALIBRATED = {"use": "vanilla-kd", "label": "calibrated", "targets": {"calibrated": True}}
KNN = {"use": "vanilla-kd", "label": "knn", "data": {"kind": "knn", "k": 4}}
ROWS = {"train": 70, "holdout": 20, "validation": 30}


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    assets = write_plannable_assets(tmp_path / "assets")
    write_plannable_model(assets / "encoder", hidden_size=24)
    texts = pa.table({"text": [f"a sentence of the bank, number {row}" for row in range(500)]})
    pq.write_table(texts, assets / "bank.parquet")
    bank = {"files": str(assets / "bank.parquet"), "encoder": str(assets / "encoder")}
    return graph_of(assets, tmp_path / "runs", method=["no-kd", CALIBRATED, KNN], bank=bank)[1]


def sizes(graph: Graph, folder: Path, facts: Mapping[str, Mapping[str, object]]) -> dict[str, SizeOfNode]:
    """Node -> its size, where the nodes in ``facts`` have records with these facts."""
    out = folder / "attempt"
    out.mkdir(exist_ok=True)
    nodes = {node.name: node for node in graph.nodes}
    records = [_record(nodes[name], out, given) for name, given in facts.items()]
    found = sizes_of(graph.nodes, {record.key: record for record in records})
    return {node.name: found[node.key] for node in graph.nodes}


def _record(node: Node, out: Path, facts: Mapping[str, object]) -> Record:
    return replace(record_for(node, out), facts=facts)


def test_in_a_fresh_storage_every_node_has_rows_and_bytes(graph: Graph, tmp_path: Path) -> None:
    found = sizes(graph, tmp_path, {})
    assert {name for name, size in found.items() if size.rows.value is None or size.bytes.value is None} == set()
    assert found["distil/no-kd/two/0@tiny"].rows == Quantity.exact(81), "no two rows of train have equal texts"
    assert found["index"].rows == Quantity.at_most(500)
    assert found["unlabelled/candidates:neighbours@tiny"].rows == Quantity.at_most(4 * 81)


def test_a_corpus_that_is_built_tells_the_exact_rows_of_what_reads_it(graph: Graph, tmp_path: Path) -> None:
    facts = {"corpus@tiny": {"rows": ROWS, "duplicates": {"train": 3, "holdout": 0, "validation": 0}}}
    found = sizes(graph, tmp_path, facts)
    assert found["finetune@tiny"].rows == found["distil/knn/two/0@tiny"].rows == Quantity.exact(70)
    assert found["teach@tiny"].rows == Quantity.exact(67), "rows of equal texts are stored once"
    assert found["candidates/neighbours@tiny"].rows == Quantity.exact(67)
    assert found["evaluate/teacher@tiny"].rows == Quantity.exact(30)
    assert found["calibrate@tiny"].rows == Quantity.exact(20)
    assert found["unlabelled/candidates:neighbours@tiny"].rows == Quantity.at_most(4 * 67)


def test_a_bank_that_is_built_tells_the_rows_of_its_embeddings_and_index(graph: Graph, tmp_path: Path) -> None:
    found = sizes(graph, tmp_path, {"bank": {"rows": 480, "read": 500}})
    assert found["embed"] == SizeOfNode(Quantity.exact(480), Quantity.at_most(480 * (24 * 2 + 16)))
    assert found["index"].rows == Quantity.exact(480)


def test_a_candidate_table_that_is_built_tells_the_rows_of_the_stores_of_its_texts(
    graph: Graph, tmp_path: Path
) -> None:
    found = sizes(graph, tmp_path, {"candidates/neighbours@tiny": {"rows": 81, "candidates": 324, "distinct": 200}})
    assert found["unlabelled/candidates:neighbours@tiny"].rows == Quantity.exact(200)
    store = found["teach/candidates:neighbours@tiny"]
    assert store == SizeOfNode(Quantity.exact(200), Quantity.at_most(200 * (16 + 2 * 4)))
