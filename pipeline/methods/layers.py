"""Methods that match a student's layers with single, random or concatenated layers of the teacher."""

from dataclasses import replace

from pipeline.methods.edges import DIVIDED, FORMULA, SUMMED
from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.layers import Concatenate, Pick, Random
from stages.specs.method import Method

PKD = NamedMethod(
    name="pkd",
    title="Patient KD, skip map",
    paper="Sun et al. 2019, Patient Knowledge Distillation for BERT Model Compression, EMNLP",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=10.0, teacher_weight=0.7, reduction="mean"),
        structure=Pick(normalised=True, weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight mean_j MSE(h_S[j] / |h_S[j]|, h_T[k] / |h_T[k]|)\nk = floor(j n / m), j = 1 .. m - 1",
    scale=f"{DIVIDED} Layers: mean over dimensions, pairs and rows.",
    defaults="tau 10 and w 0.7 are the code's for RTE, with a learning rate of 1e-5: the only run in it that scales "
    "states. Its weight there (their beta) is 500: `structure: {weight: 500}`. That constant was chosen for BERT-base; "
    "`auto` is ours. The code's other runs have tau, w and weight 20, 0.7, 1 for MRPC; 10, 0.5, 100 for "
    "SST-2 and MNLI; 20, 0.5, 100 for QNLI; 20, 0.7, 100 for QQP, with 2e-5 or 5e-5. All have 4 epochs.",
    differs="States are scaled to length 1, as in the paper's eq. 7; the code does so for RTE only. Without it the "
    "term is larger by about the squared length of a state, and the weight is another: `structure: {normalised: "
    "false, weight: 100}`. The paper sums over layers and dimensions; the code takes the mean, for which its weights "
    "were chosen. It never shuffles the rows. "
    "It reads first tokens; here that is `pooling: cls`, in the method and in the store. On STS-B it computes only "
    "accuracy.",
    example="method:\n"
    "  - pkd\n"
    "  # PKD-1, -6 and -12 of the slides: the first of the student's two layers follows layer 1, 6 or 12.\n"
    "  - {use: pkd, label: pkd-1, structure: {pairs: [[1, 1]]}}\n"
    "  - {use: pkd, label: pkd-6, structure: {pairs: [[1, 6]]}}\n"
    "  - {use: pkd, label: pkd-12, structure: {pairs: [[1, 12]]}}",
    recipe="layers-12-to-2.yaml",
    teachers="one",
)

PKD_LAST = replace(
    PKD,
    name="pkd-last",
    title="Patient KD, last layers",
    method=PKD.method.model_copy(update={"structure": Pick(pairs="last", normalised=True, weight="auto")}),
    formula=f"{FORMULA}\n+ weight mean_j MSE(h_S[j] / |h_S[j]|, h_T[k] / |h_T[k]|)\nk = n - m + j, j = 1 .. m - 1",
    defaults="Those of pkd. 6 from 12: (1, 7), (2, 8), ... (5, 11).",
    differs="As pkd. That the last map ends one layer before the top, as the skip map does, is from memory, not "
    "verified.",
    example="method: [pkd, pkd-last]",
    recipe="alp-bert.yaml",
)

RANDOM_MAP = replace(
    PKD,
    name="random-map",
    title="A random map: the control for layer methods",
    paper="-",
    method=PKD.method.model_copy(update={"structure": Pick(pairs="random", normalised=True, weight="auto")}),
    formula=f"{FORMULA}\n+ weight mean_j MSE(h_S[j] / |h_S[j]|, h_T[k] / |h_T[k]|)\n"
    "m layers k drawn once without replacement and put in rising order, j = 1 .. m",
    defaults="Those of pkd. The map is drawn from the student's seed: each seed has another. A student that was cut "
    "out of the teacher's first layers and is to follow just these has no gradient at the start, and stops with "
    "`auto`: give a number.",
    differs="This is not from a paper but a control: the value of a map of layers is its gain over this one. It maps "
    "every layer of the student, while pkd leaves out the last: so the two also differ in the number of matched "
    "layers. The teacher has to be deeper: between equal depths there is only one map.",
    example="method: [rkd, random-map, pkd, alp]",
    recipe="alp-bert.yaml",
)

CKD = NamedMethod(
    name="ckd",
    title="Combinatorial KD, groups without overlap (CKD-NO)",
    paper="Wu et al. 2020, Why Skip If You Can Combine: A Simple Knowledge Distillation Technique for Intermediate "
    "Layers, EMNLP",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.667),
        structure=Concatenate(weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight mean_j MSE(W_j h_S[j] + b_j, [h_T[k] for k in A(j)])\n"
    "A(j) the j-th of m equal runs of the teacher's layers, laid end to end",
    scale=f"{SUMMED} Layers: mean over dimensions, groups and rows.",
    defaults="The authors' code for translation weighs labels 0.1, logits 0.2 and layers 0.7: w = 0.2 / 0.3 and "
    "`structure: {weight: 2.333}`, 0.7 / 0.3, are the same up to a factor of 0.3 on the whole loss, which changes "
    "nothing for AdamW but does for clipping. That constant belongs to translation; `auto` is ours. Their temperature "
    "is not known to us; tau 2 is that of vanilla-kd.",
    differs="The student's state is projected up to the width of its group, as in the code. W_j and b_j are trained "
    "with the student and not saved in it. The code has six encoder layers to two only, with fixed maps; the "
    "rule `even` is its regular combination at any depth. How the tables of ALP-KD trained CKD on GLUE is not known.",
    example="method: {use: ckd, structure: {groups: [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]}}",
    recipe="layers-12-to-4.yaml",
    teachers="one",
)

CKD_PO = replace(
    CKD,
    name="ckd-po",
    title="Combinatorial KD, groups that overlap (CKD-PO)",
    method=CKD.method.model_copy(update={"structure": Concatenate(groups="overlapping", weight="auto")}),
    formula=f"{FORMULA}\n+ weight mean_j MSE(W_j h_S[j] + b_j, [h_T[k] for k in A(j)])\n"
    "A(j) the j-th of m equal runs of the teacher's layers, a layer longer on both sides where there is one",
    differs="As ckd. 6 to 2 gives the code's overlapping map, {1-4} {3-6}. The groups of the tables for 12 to 4 are "
    "from memory, not verified, and are what the same rule gives.",
    example="method: [ckd, ckd-po]",
)

RAIL = NamedMethod(
    name="rail-kd",
    title="RAIL-KD, layer by layer",
    paper="Haidar et al. 2022, RAIL-KD: RAndom Intermediate Layer Mapping for Knowledge Distillation, Findings of "
    "NAACL",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=1.0, teacher_weight=0.5),
        structure=Random(width=128, weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight sum_j |u_S[j] / |u_S[j]| - u_T[j] / |u_T[j]||^2\n"
    "u_S[j] = U_j h_S[j] + c_j, u_T[j] = V_j h_T[k_j] + d_j, each of width dimensions\n"
    "m of the teacher's layers are drawn anew each epoch and put in rising order",
    scale=f"{SUMMED} Layers: squared distance, summed over dimensions and layers, mean over rows.",
    defaults="Labels, logits and layers weigh a third each, width 128: from a third-party reimplementation. w 0.5 and "
    "`structure: {weight: 0.5}` give the three terms 0.5 each: the same up to a factor of 1.5 on the whole loss, which "
    "changes nothing for AdamW but does for clipping. `auto` and tau 1 are our choice; the authors' are not known to "
    "us.",
    differs="No code of the authors was found. The reimplementation uses the distance itself; here it "
    "is squared. Which of the two the paper has was not verified. It averages states over padding too; here the "
    "mean is over a row's own tokens. Projections are trained and not saved in the student.",
    example="method: [rail-kd, {use: rail-kd, label: rail-upper, structure: {layers: [7, 8, 9, 10, 11, 12]}}]",
    recipe="alp-bert.yaml",
    teachers="one",
)

RAIL_JOINED = replace(
    RAIL,
    name="rail-kd-joined",
    title="RAIL-KD, layers end to end",
    method=RAIL.method.model_copy(update={"structure": Random(width=128, weight="auto", joined=True)}),
    formula=f"{FORMULA}\n+ weight |u_S / |u_S| - u_T / |u_T||^2\n"
    "u_S = U [h_S[1] .. h_S[m]] + c, u_T = V [h_T[k_1] .. h_T[k_m]] + d, end to end, of width dimensions\n"
    "m of the teacher's layers are drawn anew each epoch and put in rising order",
    scale=f"{SUMMED} Layers: squared distance, summed over dimensions, mean over rows.",
    defaults="Those of rail-kd.",
    example="method: [rail-kd, rail-kd-joined]",
)

DISTILBERT = NamedMethod(
    name="distilbert",
    title="DistilBERT's losses: soft targets and the cosine of last states",
    paper="Sanh et al. 2019, DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter, "
    "arXiv:1910.01108",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.714),
        structure=Pick(pairs="final", distance="cosine", weight="auto"),
    ),
    formula=f"{FORMULA}\n+ weight (1 - cos(h_S[m], h_T[n]))\nm and n the last layers of student and teacher",
    scale=f"{SUMMED} Cosine: mean over rows.",
    defaults="tau 2 and the weights are those of the released code's README: 5 for the soft targets, 2 for the loss of "
    "the masked tokens, in whose place the labels stand here, and 1 for the cosine. Divided by 7 they are w 0.714 and "
    "`structure: {weight: 0.143}`, the same up to a factor on the whole loss; `auto` is ours. The student starts as "
    "every second layer of the teacher, as in the paper, by `student: {cut: {of: base, layers: [1, 3, 5, 7, 9, 11]}}`; "
    "the code takes 1, 3, 5, 8, 10 and 12 of 12.",
    differs="In the paper these are the losses of a masked language model on unlabelled text, which is fine-tuned "
    "afterwards. That is `pretrain: {texts: bank, taught_by: base}` of a model from which students start "
    "(distilbert-small.yaml). This method is for tasks without unlabelled text, and reads the store: "
    "the states are pooled over the tokens of a row, where the paper compares those of each token. States of another "
    "width are projected.",
    example="method: [vanilla-kd, distilbert]",
    recipe="slides-small.yaml",
    teachers="one",
)

LAYERS = (PKD, PKD_LAST, RANDOM_MAP, CKD, CKD_PO, RAIL, RAIL_JOINED, DISTILBERT)
