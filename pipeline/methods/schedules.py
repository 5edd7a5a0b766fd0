"""Methods that match the teacher's logits by a schedule over the epochs."""

from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import Annealing, Continuation, Progressive
from stages.specs.method import Method

ANNEALING = NamedMethod(
    name="annealing-kd",
    title="Annealing KD",
    paper="Jafari et al. 2021, Annealing Knowledge Distillation, EACL",
    method=Method(targets=TeacherTargets(), training=Annealing(max_temperature=7, first_phase=0.7)),
    formula="phase 1: MSE(z_S, Phi(T) z_T)\nphase 2: CE(y, z_S)\nPhi(T) = 1 - (T - 1) / tau_max, T from tau_max to 1",
    scale="Squared error, mean over classes and rows. T falls in equal parts of phase 1, by epoch; its last epoch "
    "always has Phi = 1. No label in phase 1; the student's logits are not scaled.",
    defaults="tau_max 7 and 14 of 20 epochs in phase 1 (`first_phase: 0.7`) are the slides' for DistilRoBERTa. For a "
    "4-layer BERT they have tau_max 7 on MRPC, SST-2, QNLI and WNLI, 14 elsewhere. README of the code: 14 + 4 "
    "epochs; its defaults: tau_max 10, 10 + 3.",
    differs="Phase 2 starts from the best epoch of phase 1 with the same learning rate and a fresh optimizer. The code "
    "raises Phi every int(n1 / tau_max) epochs without a bound: beyond 1 where that does not divide, and a division "
    "by zero where n1 < tau_max. On STS-B its phase 2 compares [B, 1] with [B], which becomes [B, B]. Its last epoch "
    "of phase 1 may never be evaluated; here every epoch is, and the best of both phases is kept. Its teacher is "
    "not frozen and still runs in phase 2; here it does not run at all.",
    example="method: {use: annealing-kd, training: {max_temperature: 14}}",
    recipe="chain-roberta.yaml",
)

CONTINUATION = NamedMethod(
    name="continuation-kd",
    title="Continuation KD",
    paper="Jafari et al. 2022, Continuation KD: Improved Knowledge Distillation through the Lens of Continuation "
    "Optimization, Findings of EMNLP",
    method=Method(targets=TeacherTargets(), training=Continuation(max_temperature=10, margin=0.0, together=0.667)),
    formula="psi CE(y, z_S) + (1 - psi) max(0, MSE(z_S, Phi(T) z_T) - margin Phi(T))\n"
    "Phi(T) = 1 - (T - 1) / tau_max, T from tau_max to 1\n"
    "psi from 0 to label_weight over the share together of the epochs, 1 after it",
    scale="Squared error, mean over classes, the margin taken off row by row, mean over rows. T falls in equal parts "
    "of all epochs.",
    defaults="tau_max 10, and psi = i / 40 up to epoch 20 of 30, then 1 (0.5 over two thirds) are the paper's for "
    "GLUE. Its margin is not stated; 0 is without one.",
    differs="The paper writes a squared norm, the sum over classes; here it is the mean, as in annealing-kd: for C "
    "classes its margin is C times ours. No code was released. With margin 0 and a psi that jumps from 0 to 1 it is "
    "annealing-kd, except for the fresh optimizer there.",
    example="method: {use: continuation-kd, training: {margin: 0.5}}",
    recipe="checkpoints.yaml",
)

PRO_KD = NamedMethod(
    name="pro-kd",
    title="Pro-KD: the footsteps of the teacher",
    paper="Rezagholizadeh et al. 2022, Pro-KD: Progressive Distillation by Following the Footsteps of the Teacher, "
    "COLING",
    method=Method(targets=TeacherTargets(), training=Progressive(first_phase=0.7)),
    formula="phase 1: MSE(z_S, z_i), i = 1, 2, ... the teachers in turn, in equal parts of the phase\nphase 2: CE(y, "
    "z_S)",
    scale="Squared error, mean over classes and rows.",
    defaults="The paper's settings are not verified: only its abstract was read, the rest is from memory. 0.7 of the "
    "epochs in phase 1 is that of annealing-kd.",
    differs='No code was released. The slides\' name "Grow-KD" has no paper that we know; it is plausibly what became '
    "Pro-KD (not verified). Phase 2 starts from the best epoch of phase 1. The teachers need not be epochs of "
    "one model: those of a list are followed in its order.",
    example="teacher: {model: roberta-large, finetune: {epochs: 4, keep: epochs}}\n"
    "method: {use: pro-kd, taught_by: teacher:all}\n"
    "train: {epochs: 20}",
    recipe="checkpoints.yaml",
    teachers="many",
    taught_by="teacher:all",
)

SCHEDULES = (ANNEALING, CONTINUATION, PRO_KD)
