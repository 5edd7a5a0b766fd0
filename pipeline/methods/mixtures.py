"""Methods that match a student's layer with a mixture of layers, or the relations of rows within a layer."""

from dataclasses import replace

from pipeline.methods.edges import FORMULA, SUMMED
from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import Hard, TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.layers import Attend, Outputs, Relational
from stages.specs.method import Method

ALP = NamedMethod(
    name="alp",
    title="ALP-KD: every layer attends to all of the teacher's",
    paper="Passban et al. 2021, ALP-KD: Attention-Based Layer Projection for Knowledge Distillation, AAAI",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=1.0, teacher_weight=0.2),
        structure=Attend(groups="all", weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight sum_j MSE(h_S[j], c[j])\n"
    "c[j] = sum_k alpha[k] h_T[k], alpha = softmax over k in A(j) of h_S[j] . h_T[k], row by row\n"
    "A(j) = all layers",
    scale=f"{SUMMED} Layers: mean over dimensions, summed over the student's layers, mean over rows.",
    defaults="Labels 0.8, logits 0.2 and tau 1 are those of a third-party reimplementation (IKMLab/LAD). Its weight is "
    "100 and divides by the number of student layers, m: `structure: {over: mean, weight: 100}`, which is "
    "`{weight: 25}` over a sum of four. The paper's beta, eta and lambda are not known to us, so the weight is `auto`.",
    differs="As in the slides the term is summed over student layers, and the product is plain; the "
    "reimplementation divides it by the square root of the width "
    "(`scaled: true`); `temperature` divides it by any number. No "
    "gradient is stopped in alpha (`detached: true` does). A projection is learned "
    "only where widths differ. The reimplementation reads first tokens: `pooling: cls`, in the method and in the "
    "store.",
    example="method: [alp, {use: alp, label: alp-scaled, structure: {scaled: true}}]",
    recipe="layers-12-to-4.yaml",
    teachers="one",
)

ALP_NO = replace(
    ALP,
    name="alp-no",
    title="ALP-KD, groups without overlap (ALP-NO)",
    method=ALP.method.model_copy(update={"structure": Attend(groups="even", weight="auto")}),
    formula=ALP.formula.replace("A(j) = all layers", "A(j) the j-th of m equal runs of the teacher's layers"),
    defaults="Those of alp; the groups are those of ckd.",
    differs="As alp.",
    example="method: [alp, alp-no, alp-po]",
)

ALP_PO = replace(
    ALP_NO,
    name="alp-po",
    title="ALP-KD, groups that overlap (ALP-PO)",
    method=ALP.method.model_copy(update={"structure": Attend(groups="overlapping", weight="auto")}),
    formula=ALP.formula.replace(
        "A(j) = all layers", "A(j) the j-th of m equal runs, a layer longer on both sides where there is one"
    ),
    defaults="Those of alp; the groups are those of ckd-po.",
    differs="As alp. The groups of the tables for 12 to 4 are from memory, not verified.",
)

UNIVERSAL = NamedMethod(
    name="universal-kd",
    title="Universal-KD: layers compared by classifiers on them",
    paper="Wu et al. 2021, Universal-KD: Attention-based Output-Grounded Intermediate Layer Knowledge Distillation, "
    "EMNLP",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.5),
        structure=Outputs(weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight mean_j t^2 KL(softmax(c[j] / t) || softmax(s[j] / t))\n"
    "s[j] the logits of a classifier on h_S[j], z[k] those of a classifier on h_T[k]\n"
    "c[j] = sum_k alpha[k] z[k], alpha = softmax over k in A(j) of s[j] . z[k], row by row; A(j) = all layers",
    scale=f"{SUMMED} Layers: KL summed over classes, mean over groups and rows; squared error for a regression.",
    defaults="Not verified: the abstract was read, the rest is second-hand. The weight `auto` and t 1 are ours "
    "(`structure: {weight: 1}` adds the term as it is), and so are the "
    "settings of the teacher's classifiers: penalty 1 on the squared norm, 5 folds; tau 2 and w 0.5 are those of "
    "vanilla-kd; A(j) = all layers.",
    differs="No code was released. The paper trains in two stages, distillation and then labels; here it is one, and "
    "`training: annealing` makes two of it. The teacher's classifiers are linear, fitted on its stored states once "
    "for all students, and out of fold: the outputs for a row come from a classifier that was not fitted on it, which "
    "would only repeat the label. These details are ours. The student's classifiers are trained with it and not "
    "saved. Widths and depths may differ.",
    example="method: {use: universal-kd, structure: {groups: even}}",
    recipe="alp-bert.yaml",
    teachers="one",
)

RELATIONAL = NamedMethod(
    name="relational-kd",
    title="Relational KD",
    paper="Park et al. 2019, Relational Knowledge Distillation, CVPR",
    method=Method(targets=Hard(), structure=Relational(distance=1.0, angle=2.0, weight="auto")),
    formula="CE(y, z_S) + weight (distance L(d_S, d_T) + angle L(a_S, a_T)), L smooth L1\n"
    "d the distances between the rows of a batch over their mean, a the cosines of the angles between any three,\n"
    "in the last layer of student and teacher",
    scale="Smooth L1, mean over pairs and over triples of rows. The mean of the distances is over those above 0.",
    defaults="distance 1 and angle 2 are the authors' commands' for metric learning, where they are the whole loss; "
    "`structure: {weight: 1}` adds them as they are, and `auto` is ours. Their script for CIFAR adds "
    "labels (1), distances (25), angles (50) and vanilla KD (16, tau 4) on states scaled to length 1.",
    differs="Their commands for metric learning train only on the relations; here labels are added, because a "
    "classifier needs them. It compares all rows of a batch: no `train.micro_batch`.",
    example="method: {use: relational-kd, targets: teacher, training: {temperature: 4}}",
    recipe="alp-bert.yaml",
    teachers="one",
)

MIXTURES = (ALP, ALP_NO, ALP_PO, UNIVERSAL, RELATIONAL)
