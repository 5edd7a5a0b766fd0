"""The table of stages: spec class -> stage function. A new stage is added here, and nowhere else.

A node of the graph holds a spec; the runner looks up the spec's class in this table and calls the function with the
spec, the directories of its inputs by name, the directory to write to, and the resources to run on.
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
from stages.evaluation.similarity import similarity
from stages.pretraining.pretrain import pretrain
from stages.pretraining.tokenised_texts import tokenised_texts
from stages.retrieval.embed import embed
from stages.retrieval.index import index
from stages.rewriting.rewrite import rewrite
from stages.specs.bank import BankSpec
from stages.specs.base import Spec
from stages.specs.candidates import NeighboursSpec, RerankSpec, RewriteSpec, TransferSpec, UnlabelledSpec
from stages.specs.corpus import CorpusSpec
from stages.specs.evaluation import EnsembleSpec, EvaluateSpec, SimilaritySpec
from stages.specs.pretraining import PretrainSpec, TextsSpec
from stages.specs.retrieval import EmbedSpec, IndexSpec
from stages.specs.student import DistilSpec
from stages.specs.teacher import CalibrateSpec, ProbeSpec, TeachSpec
from stages.teaching.calibrate import calibrate
from stages.teaching.probe import probe
from stages.teaching.teach import teach
from stages.training.distil import distil

Stage = Callable[[Any, Mapping[str, Path], Path, On], Mapping[str, object]]
"""``stage(spec, inputs, out, on)`` writes the artifact's files to ``out`` and returns figures for its record, such as
``rows``."""

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
        TextsSpec: tokenised_texts,
        PretrainSpec: pretrain,
        TeachSpec: teach,
        CalibrateSpec: calibrate,
        ProbeSpec: probe,
        DistilSpec: distil,
        EvaluateSpec: evaluate,
        SimilaritySpec: similarity,
        EnsembleSpec: ensemble,
    }
)

WORKER_MODULES: Mapping[type[Spec], str] = MappingProxyType(
    {
        DistilSpec: "stages.training.worker",
        PretrainSpec: "stages.pretraining.worker",
        TeachSpec: "stages.teaching.worker",
    }
)
"""Spec class -> the module that its workers import first: it imports torch and transformers, which takes seconds."""

AUTO_MODULES = ("transformers.models.auto.tokenization_auto", "transformers.models.auto.modeling_auto")
"""Modules that transformers loads when one of their names is first used, which two threads must not do at once."""
