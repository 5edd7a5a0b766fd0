"""The relational loss against NumPy written pair by pair, and its gradient with several workers."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from training_setups import FORKSERVER

from stages.specs.layers import Relational
from stages.training.objective.relations import Workers, relational_error

GENERATOR = np.random.Generator(np.random.PCG64(6))
STUDENT = GENERATOR.normal(size=(5, 4)).astype(np.float32)
TEACHER = GENERATOR.normal(size=(5, 9)).astype(np.float32)
ALONE = Workers(rows=5)


def error(student: np.ndarray, teacher: np.ndarray, structure: Relational) -> np.ndarray:
    workers = Workers(rows=len(student))
    return relational_error(torch.from_numpy(student), torch.from_numpy(teacher), structure, workers).numpy()


def smooth_l1(one: float, other: float) -> float:
    apart = abs(one - other)
    return 0.5 * apart**2 if apart < 1 else apart - 0.5


def distances(values: np.ndarray) -> np.ndarray:
    found = np.array([[np.linalg.norm(a - b) for b in values] for a in values])
    return found / found[found > 0].mean()


def cosine(values: np.ndarray, at: int, one: int, other: int) -> float:
    if at in (one, other):
        return 0.0
    a, b = values[one] - values[at], values[other] - values[at]
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_the_distance_term_is_smooth_l1_of_relative_distances() -> None:
    own, other = distances(STUDENT), distances(TEACHER)
    expected = [np.mean([smooth_l1(own[i, j], other[i, j]) for j in range(5)]) for i in range(5)]
    found = error(STUDENT, TEACHER, Relational(pair=(1, 1), distance=3.0, angle=0.0))
    np.testing.assert_allclose(found, 3 * np.array(expected), rtol=1e-4)


def test_the_angle_term_is_smooth_l1_of_cosines() -> None:
    expected = [
        np.mean([smooth_l1(cosine(STUDENT, i, j, k), cosine(TEACHER, i, j, k)) for j in range(5) for k in range(5)])
        for i in range(5)
    ]
    found = error(STUDENT, TEACHER, Relational(pair=(1, 1), distance=0.0, angle=2.0))
    np.testing.assert_allclose(found, 2 * np.array(expected), rtol=1e-4)


def test_a_scaled_shifted_or_rotated_copy_of_the_teacher_has_loss_zero() -> None:
    turn, _ = np.linalg.qr(GENERATOR.normal(size=(9, 9)))
    copy = (7 * TEACHER @ turn + 3).astype(np.float32)
    np.testing.assert_allclose(error(copy, TEACHER, Relational(pair=(1, 1))), np.zeros(5), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_and_equal_rows_have_a_finite_gradient(rows: int) -> None:
    state = torch.ones(rows, 4, requires_grad=True)
    loss = relational_error(state, torch.from_numpy(TEACHER[:rows]), Relational(pair=(1, 1)), Workers(rows=rows))
    loss.sum().backward()
    assert state.grad is not None
    assert bool(torch.isfinite(loss).all()) and bool(torch.isfinite(state.grad).all())


def test_rows_that_coincide_only_in_the_student_have_a_bounded_gradient() -> None:
    generator = np.random.Generator(np.random.PCG64(8))
    teacher = torch.from_numpy(generator.normal(size=(3, 9)).astype(np.float32))
    apart = generator.normal(size=(3, 4)).astype(np.float32)
    norms = []
    for together in (0.0, 1e-7, 1e-2):
        state = torch.from_numpy(np.stack([apart[0], apart[0] + together, apart[1]])).requires_grad_(True)
        relational_error(state, teacher, Relational(pair=(1, 1)), Workers(rows=3)).sum().backward()
        assert state.grad is not None
        norms.append(float(state.grad.norm()))
    assert max(norms[:2]) <= norms[2]


def work(rank: int, directory: str) -> None:
    """One of three workers over 5 rows, then over 2, which leave the third worker only a placeholder row."""
    torch.set_num_threads(1)
    meeting = f"file://{directory}/meeting"
    torch.distributed.init_process_group("gloo", meeting, timedelta(seconds=200), rank=rank, world_size=3)
    outputs = []
    for rows in (5, 2):
        own = list(range(rows))[rank::3] or [0]
        state = torch.from_numpy(STUDENT[own]).clone().requires_grad_(True)
        loss = relational_error(state, torch.from_numpy(TEACHER[own]), Relational(pair=(1, 1)), Workers(rank, 3, rows))
        weight = 1.0 if rank < rows else 0.0
        (weight * loss).sum().backward()
        outputs.append((weight * loss.detach(), state.grad))
    torch.save(outputs, f"{directory}/loss-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_that_share_a_batch_get_the_gradient_of_a_single_worker(tmp_path: Path) -> None:
    others = [FORKSERVER.Process(target=work, args=(rank, str(tmp_path))) for rank in (1, 2)]
    for other in others:
        other.start()
    work(0, str(tmp_path))
    for other in others:
        other.join()
        assert other.exitcode == 0
    outputs = [torch.load(tmp_path / f"loss-{rank}.pt") for rank in range(3)]
    for place, rows in enumerate((5, 2)):
        state = torch.from_numpy(STUDENT[:rows]).clone().requires_grad_(True)
        loss = relational_error(state, torch.from_numpy(TEACHER[:rows]), Relational(pair=(1, 1)), Workers(rows=rows))
        loss.sum().backward()
        assert state.grad is not None
        for rank in range(min(3, rows)):
            own = range(rows)[rank::3]
            torch.testing.assert_close(outputs[rank][place][0], loss.detach()[list(own)], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(outputs[rank][place][1], state.grad[list(own)], rtol=1e-4, atol=1e-6)
    assert float(outputs[2][1][1].abs().sum()) == 0, "a stand-in row moves nothing"
