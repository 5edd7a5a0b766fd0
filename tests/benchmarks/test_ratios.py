"""The benchmark of gradients: which methods it measures."""

import re

import pytest

from benchmarks.ratios import WEIGHTS
from pipeline.methods import METHODS, find
from stages.specs.axes.structures import LayerStructure, NoLayers


def test_the_gradients_of_every_method_that_matches_pooled_layers_are_measured() -> None:
    matched = {named.name for named in METHODS if isinstance(named.method.structure, LayerStructure)}
    assert set(WEIGHTS) == matched


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_layer_method_has_the_weight_auto_and_its_text_gives_the_constant_of_its_source(name: str) -> None:
    structure, text = find(name).method.structure, find(name).defaults
    assert not isinstance(structure, NoLayers)
    assert structure.weight == "auto"
    referred = re.match(r"Those of ([\w-]+)", text)
    assert f"weight: {WEIGHTS[name]:g}}}" in (find(referred[1]).defaults if referred else text)
