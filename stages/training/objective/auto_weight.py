"""``structure.weight: auto``: the weight at which the layers' gradient is as long as that of the labels' term.

The papers' constants belong to one reduction, one width and one pair of models; on others the same number can make the
layer term 100 times as strong as the labels or 100 times as weak. ``auto`` replaces the number by a rule. When training
starts, both terms are computed with weight 1 on the first batches of the first epoch, by the student as it is then: in
float32 and without dropout. Their gradients are compared on the parameters that both reach, the student's embeddings
and layers up to the highest that is matched; the head and the projections belong to one term alone. The weight is

    mean over batches of |gradient of the labels' term| / mean over batches of |gradient of the layers' term|,

a number that stays for the whole training, and by which schedules multiply as they do by any other. (GradNorm, Chen et
al. 2018, balances gradients of tasks in every step; here a method is a fixed loss.)
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stages.corpus.batches import Rows, epoch_batches, share_of
from stages.specs.axes.training import Phase, Position
from stages.specs.schedule import EpochPlan, compared_terms, output_request
from stages.specs.seeds import seed_of
from stages.training.checkpoint import LayerWeight
from stages.training.objective.trained_parts import TrainedParts
from stages.training.optimizer import explain_out_of_memory
from stages.training.setup import host_batches

BATCHES = 4
"""The number of batches on which gradients are compared, where the epoch has as many."""

LEAST_RATIO = 1e-4
"""A layers' gradient at weight 1 that is shorter than this share of the labels' gradient is taken for rounding: the
matched states are equal already, or do not vary. The catalogue's layer terms have ratios of 0.01 and more."""


def measured_weight(parts: TrainedParts, phase: Phase) -> LayerWeight:
    """The weight of the layer term for a training that starts with ``phase``. All workers return the same. Raises
    ValueError if the gradient of a term is not finite, or that of the layers all but 0."""
    worker = parts.worker
    batches = first_batches(parts)[:BATCHES]
    plan = compared_plan(parts, phase)
    norms = torch.tensor([gradient_norms(parts, rows, plan) for rows in batches], dtype=torch.float64).mean(0)
    if worker.world_size > 1:
        # Sums over workers need not have the same bits on all of them.
        shared = norms.to(worker.device)
        torch.distributed.broadcast(shared, 0)
        norms = shared.cpu()
    labels, layers = norms.tolist()
    lengths = f"the labels' gradient is {labels:.3g} long, the layers' {layers:.3g}"
    if not (math.isfinite(labels) and math.isfinite(layers) and labels > 0):
        raise ValueError(f"structure.weight: auto, but {lengths}, which gives no weight; give a number")
    if layers < LEAST_RATIO * labels:
        raise ValueError(
            f"structure.weight: auto, but {lengths}: the student's layers already equal the teacher's, or hardly vary; "
            "match other layers, or give a number"
        )
    worker.note(f"layers get the weight {labels / layers:.4g}: at the start {lengths}")
    return LayerWeight(labels / layers, labels, layers, len(batches))


def first_batches(parts: TrainedParts) -> Sequence[Rows]:
    """The global batches of the first epoch, in the order of training."""
    train, rows = parts.setup.spec.train, parts.setup.train
    return epoch_batches(rows.costs, train.batch_size, seed_of(train.seed, 0, 0))


def compared_plan(parts: TrainedParts, phase: Phase) -> EpochPlan:
    """The plan of the first epoch, with the two compared terms alone."""
    spec, start = parts.setup.spec, Position()
    terms = compared_terms(spec.method, phase.epochs, parts.setup.task.kind, spec.train.seed)
    request = output_request(spec.method, terms, start, phase.epochs, parts.setup.signal.teachers)
    return EpochPlan(start, terms, request=request)


def gradient_norms(parts: TrainedParts, rows: Rows, plan: EpochPlan) -> tuple[float, float]:
    """The lengths of the gradients of the labels' and of the layers' term, each the mean over the global batch
    ``rows``, on the student's parameters that both terms reach. All workers must call it; they share the rows. The
    gradients of an optimizer step stay as they are."""
    worker, setup = parts.worker, parts.setup
    share = share_of(rows, worker.rank, worker.world_size)
    parameters = [parameter for parameter in parts.model.parameters() if parameter.requires_grad]
    sums: list[list[Tensor | None]] = [[None] * len(parameters), [None] * len(parameters)]
    training = parts.model.training
    parts.model.eval()
    max_rows = _rows_at_once(parts, share.rows)
    for host_batch in host_batches(setup.train, setup.signal, share.rows, plan.request, max_rows):
        with explain_out_of_memory(len(host_batch.rows)):
            terms = parts.term_values(host_batch.to(worker.device), len(rows), plan)
            for term_B, of_term in zip(terms, sums, strict=True):
                loss = term_B.sum() * (share.weight / len(rows))
                found = torch.autograd.grad(loss, parameters, retain_graph=term_B is terms[0], allow_unused=True)
                of_term[:] = [_added(*pair) for pair in zip(of_term, found, strict=True)]
    parts.model.train(training)
    both = [(one, other) for one, other in zip(*sums, strict=True) if one is not None and other is not None]
    labels, layers = (_length([pair[term] for pair in both], worker.world_size) for term in (0, 1))
    return labels, layers


def _rows_at_once(parts: TrainedParts, own: Rows) -> int:
    """The rows of one pass: those of a training step, or half as many where steps compute in a type of half the bytes
    and the rows can be divided."""
    train = parts.setup.spec.train
    rows = train.micro_batch or len(own)
    whole = train.precision == "float32" or parts.setup.spec.method.needs_whole_batch
    return rows if whole else -(-rows // 2)


def _added(total: Tensor | None, found: Tensor | None) -> Tensor | None:
    """The sum, in which None stands for a parameter that the term does not reach."""
    if total is None or found is None:
        return found if total is None else total
    return total + found


def _length(gradients: Sequence[Tensor], world_size: int) -> float:
    """The Euclidean length of these gradients together, each summed over workers first."""
    total = 0.0
    for gradient in gradients:
        if world_size > 1:
            torch.distributed.all_reduce(gradient)
        total += float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2
    return math.sqrt(total)
