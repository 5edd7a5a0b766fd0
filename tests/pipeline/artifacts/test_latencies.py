"""Measured latencies in a storage: what stands for a model, what is read again, and what is left behind."""

from dataclasses import replace
from pathlib import Path

import pytest
from project import graph_of, nodes_by_name, write_artifact, write_plannable_assets

from pipeline.artifacts.latencies import (
    MeasuredLatency,
    dangling_latencies,
    headline,
    note_latencies,
    read_latencies,
)
from pipeline.artifacts.record import withdraw
from pipeline.storage.directory import Directory

STUDENT = "distil/vanilla-kd/two/0@tiny"
ONE = MeasuredLatency(
    model="a" * 64,
    external=False,
    runtime="PyTorch",
    bytes=10_000_000,
    parameters=2_000_000,
    batch=1,
    threads=1,
    tokens=20.0,
    p50_ms=4.0,
    p95_ms=5.0,
    cpu_ms=3.9,
    rows_per_second=250.0,
    speedup=2.0,
    cpu_speedup=2.1,
    host="here",
    processor="a processor",
    cores=2,
    measured="2026-01-02T00:00:00+00:00",
)


def test_the_smallest_batch_then_the_fewest_threads_then_the_model_itself_stands_for_a_model() -> None:
    int8, later = replace(ONE, runtime="ONNX int8"), replace(ONE, measured="2026-01-03T00:00:00+00:00", host="there")
    large, parallel = replace(ONE, batch=32), replace(ONE, threads=2)
    assert headline([large, parallel, int8, ONE, later]) == later
    assert headline([large, parallel, int8]) == int8
    assert headline([large, parallel]) == parallel
    assert headline([]) is None


def test_measurements_are_read_by_their_model_and_a_later_one_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    storage, epoch = Directory(tmp_path), replace(ONE, model=f"{'a' * 64}/epochs/01")
    int8, large = replace(ONE, runtime="ONNX int8"), replace(ONE, batch=32)
    note_latencies([large, int8, ONE, epoch, replace(ONE, model="b" * 64)], storage)
    note_latencies([replace(ONE, p50_ms=3.0)], storage)
    assert read_latencies(storage, {ONE.model, epoch.model, "c" * 64}) == {
        ONE.model: (replace(ONE, p50_ms=3.0), int8, large),
        epoch.model: (epoch,),
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1}', '{"p50_ms": "x"}'])
def test_a_damaged_measurement_counts_as_none(tmp_path: Path, text: str) -> None:
    storage = Directory(tmp_path)
    note_latencies([ONE], storage)
    (file,) = tmp_path.glob(".latency/*/*.json")
    file.write_text(text)
    assert read_latencies(storage, {ONE.model}) == {} and dangling_latencies(storage) == []


def test_a_measurement_dangles_once_its_model_is_gone_unless_no_stage_made_that(tmp_path: Path) -> None:
    storage = Directory(tmp_path / "runs")
    node = nodes_by_name(graph_of(write_plannable_assets(tmp_path / "assets"), storage)[1])[STUDENT]
    record = write_artifact(storage, node)
    own, outside = replace(ONE, model=node.key), replace(ONE, model="e" * 64, external=True)
    note_latencies([own, outside], storage)
    assert dangling_latencies(storage) == []
    withdraw(storage, record.stage, record.key)
    (gone,) = dangling_latencies(storage)
    assert gone.startswith(f".latency/{node.key}/")
