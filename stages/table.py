"""Which function carries out which spec: the one place that a stage is entered in.

A node of the graph holds a spec; the runner looks its class up here and calls the function with that spec, the
directories of its inputs, a work directory, and the places to run on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cluster.resources import On
from stages.bank.bank import bank
from stages.candidates.neighbours import neighbours
from stages.candidates.rerank import rerank
from stages.candidates.transfer import transfer
from stages.candidates.unlabelled import unlabelled
from stages.corpus.corpus import corpus
from stages.evaluation.ensemble import ensemble
from stages.evaluation.evaluate import evaluate
from stages.retrieval.embed import embed
from stages.retrieval.index import index
from stages.rewriting.rewrite import rewrite
from stages.specs.bank import BankSpec
from stages.specs.base import Spec
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, TransferSpec, UnlabelledSpec
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec
from stages.specs.retrieval import EmbedSpec, IndexSpec
from stages.specs.student import DistilSpec
from stages.specs.teacher import ProbeSpec, TeachSpec
from stages.teaching.probe import probe
from stages.teaching.teach import teach
from stages.training.distil import distil

Stage = Callable[[Any, Mapping[str, Path], Path, On], Mapping[str, object]]
"""``stage(spec, inputs, out, on)``: leaves its artifact's files in ``out`` and returns its figures for the record."""

STAGES: Mapping[type[Spec], Stage] = MappingProxyType(
    {
        CorpusSpec: corpus,
        BankSpec: bank,
        EmbedSpec: embed,
        IndexSpec: index,
        NeighboursSpec: neighbours,
        TransferSpec: transfer,
        RewriteSpec: rewrite,
        UnlabelledSpec: unlabelled,
        RerankSpec: rerank,
        TeachSpec: teach,
        ProbeSpec: probe,
        DistilSpec: distil,
        EvaluateSpec: evaluate,
        EnsembleSpec: ensemble,
    }
)
