"""Methods in which an adversary changes the rows that the student is trained on."""

from pipeline.methods.edges import FORMULA, SUMMED
from pipeline.methods.named import NamedMethod
from stages.specs.axes.data import Adversarial, Contrast, FreeLB, WithGenerator
from stages.specs.axes.targets import Hard, TeacherTargets
from stages.specs.axes.training import Annealing, OnePhase
from stages.specs.method import Method

ZHU = (
    "Zhu et al. 2020, FreeLB: Enhanced Adversarial Training for Natural Language Understanding, ICLR, arXiv:1909.11764"
)
ASCENT = (
    "d_1 uniform in +- start / sqrt(tokens * width), 0 at padding\n"
    "d_{k+1} = project(d_k + rate g / |g|), g the gradient of the loss for d_k, |d| <= max_norm"
)
SETTINGS = (
    "rate 0.1, 2 steps, start 0.1 and max_norm 0.3 are those of the released code for RoBERTa on MNLI; it has others "
    "for each task. Lengths are those of all tokens of a row together."
)
MASKS = "All forms of a batch have the same dropout masks, as in the code for ALBERT (the paper's section on dropout)."

FREELB = NamedMethod(
    name="freelb",
    title="FreeLB: adversarial training in several steps",
    paper=ZHU,
    method=Method(targets=Hard(), data=FreeLB()),
    formula=f"mean over k = 1 ... K of CE(y, z_S(E + d_k)), E the word embeddings of the row\n{ASCENT}",
    scale="Mean over forms, then over rows.",
    defaults=SETTINGS,
    differs=f"{MASKS} The loss of a form is divided by K and its gradients add up; there is one optimizer step for all "
    "forms, as in the paper, so that a step costs K forward and backward passes. A regression has the squared error.",
    example="method: [no-kd, {use: freelb, data: {steps: 3, rate: 0.1}}]",
    recipe="slides-small.yaml",
    teachers="none",
    taught_by=None,
)

FREELB_KD = NamedMethod(
    name="freelb-kd",
    title="FreeLB with a teacher",
    paper=f"{ZHU}; with KD as in Rashid et al. 2021, MATE-KD: Masked Adversarial TExt, a Companion to Knowledge "
    "Distillation, ACL, where it is a baseline",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=2.0, teacher_weight=0.5), data=FreeLB()),
    formula=f"mean over k = 1 ... K of\n{FORMULA}\nwith z_S(E + d_k), and z_T those of the row as it is\n{ASCENT}",
    scale=f"{SUMMED} Mean over forms, then over rows.",
    defaults=f"tau 2 and w 0.5 are those of vanilla-kd. {SETTINGS}",
    differs=f"{MASKS} The paper of MATE-KD does not say which logits of the teacher a perturbed row is compared with. "
    "Here they are the stored ones of the row as it is, so that the teacher is never run: a perturbation that is "
    "small should not change the teacher's outputs.",
    example="method: [vanilla-kd, freelb, freelb-kd]",
    recipe="slides-small.yaml",
)

ADVERSARIAL = NamedMethod(
    name="adversarial",
    title="Adversarial training along the gradient of the labels",
    paper="Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, ICLR, "
    "arXiv:1605.07725",
    method=Method(targets=Hard(), data=Adversarial()),
    formula="1/2 CE(y, z_S(E)) + 1/2 CE(y, z_S(E + length g / |g|))\n"
    "g the gradient of CE(y, z_S(E)) for the word embeddings E of the row",
    scale="Mean over the two forms, then over rows.",
    defaults="length 0.3 is the bound of freelb; the paper has 5 for word embeddings that are scaled to mean 0 and "
    "variance 1, which those of pretrained encoders are not.",
    differs="The paper has an LSTM, and adds the loss of the perturbed row to that of the row; here it is their mean, "
    "so that the learning rate means the same. Both forms have the same dropout masks. With a teacher (`targets: "
    "teacher`), the step still follows the labels' loss alone, and both forms are compared with the stored logits.",
    example="method: [no-kd, {use: adversarial, data: {length: 0.5}}]",
    recipe="slides-small.yaml",
    teachers="none",
    taught_by=None,
)

RASHID = "Rashid et al. 2021, MATE-KD: Masked Adversarial TExt, a Companion to Knowledge Distillation, ACL"
GENERATED_ROWS = (
    "x' is x with a share `mask` of its tokens, special tokens aside, masked and filled by the generator G.\n"
    "In `generator_steps` steps, maximise d(T(x'), S(x')) over G, by a straight-through Gumbel-softmax;\n"
    "in the next `student_steps`, minimise over S; each on rows of their own."
)

MATE_KD = NamedMethod(
    name="mate-kd",
    title="MATE-KD: a generator writes where student and teacher differ",
    paper=RASHID,
    method=Method(
        targets=TeacherTargets(), training=OnePhase(temperature=1.0, teacher_weight=0.5), data=WithGenerator()
    ),
    formula=f"(1 - share) [{FORMULA}]\n+ share tau^2 KL(T(x') || S(x'))\n{GENERATED_ROWS}",
    scale=f"{SUMMED} With share 1/3 and w 1/2, CE, KD and the generated rows have a third each.",
    defaults="Thirds, tau 1, a share of 0.3 of the tokens masked, cycles of 10 and 100 steps, a generator at 5e-7 and "
    "temperature 1 are the released code's; it trains the student at 2e-5 for 30 epochs. The paper has 0.4 on RTE.",
    differs="The generator maximises the KL divergence, as in the slides and the paper's equation; the code maximises "
    "the cross-entropy, which rewards the teacher's entropy, too (`objective: cross-entropy`). Rows as they are have "
    "stored logits: the teacher runs on generated rows alone, and backward in the generator's turn alone, where the "
    "code runs it on both and backward in every step. Learning rates rise and fall over each model's own steps; the "
    "code's warm-up of 2,138 steps never ends on small tasks. The generator writes no special token, and its dropout "
    "is off in the student's turn. A regression has the squared error.",
    example="bank: {files: [sentences.parquet], text: text}\n"
    "models: {generator: {cut: {of: teacher, layers: [1, 2]}, pretrain: bank}}\n"
    "method: [no-kd, vanilla-kd, mate-kd]",
    recipe="mate-small.yaml",
)

COMBINED_KD = NamedMethod(
    name="combined-kd",
    title="Combined KD: annealing with the rows of a generator",
    paper=f"{RASHID}; Jafari et al. 2021, Annealing Knowledge Distillation, EACL; their combination is the entry "
    "CombinedKD-TinyRoBERTa of the GLUE leaderboard",
    method=Method(targets=TeacherTargets(), training=Annealing(max_temperature=7), data=WithGenerator(share=0.5)),
    formula="phase 1: 1/2 MSE(z_S(x), Phi z_T(x)) + 1/2 MSE(z_S(x'), Phi z_T(x')), no labels; phase 2: CE(y, z_S(x))\n"
    "Phi = 1 - (T - 1) / tau_max, T from tau_max to 1 by epoch\n"
    f"{GENERATED_ROWS} d is that squared error.",
    scale="Squared errors are means over classes, then over rows.",
    defaults="tau_max 7 and a first phase of 7 in 10 epochs are those of annealing-kd; the script for RoBERTa has "
    "tau_max 10 and 30 + 10 epochs. Masks, turns and the generator are those of mate-kd.",
    differs="The released script for BERT computes the generated rows' loss and never uses it, has labels in the first "
    "phase, and a Phi that reaches 15/14; both scripts train the student without dropout, and run teacher and "
    "generator in the second phase, where nothing of them is used. Here the second phase has labels alone, as in the "
    "slides.",
    example="method: [annealing-kd, mate-kd, combined-kd]",
    recipe="mate-small.yaml",
)

CILDA = NamedMethod(
    name="cilda",
    title="CILDA: MATE-KD with a contrast of layers",
    paper="Haidar et al. 2022, CILDA: Contrastive Data Augmentation using Intermediate Layer Knowledge Distillation, "
    "COLING",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=1.0, teacher_weight=0.5),
        data=WithGenerator(labels=2 / 3, contrast=Contrast()),
    ),
    formula=f"(1 - share) [{FORMULA}]\n"
    "+ share [labels CE(y, z_S(x')) + (1 - labels) tau^2 KL(T(x') || S(x'))]\n"
    f"{GENERATED_ROWS}\n"
    "G maximises (1 - c) d + c InfoNCE, c the share of the contrast;\n"
    "InfoNCE = -log softmax_j(s_i . t_j / temperature)[i],\n"
    "with s_i, t_i the states of all layers of row i of the batch, joined, projected and scaled to length 1",
    scale=f"{SUMMED} Thirds for CE, KD and generated rows; of the last, 2/3 are CE and 1/3 is KD. InfoNCE is a mean "
    "over rows.",
    defaults="All weights, temperature 2 and width 128 are those of a third-party reimplementation; no code of the "
    "authors was found. Masks, turns and the generator are those of mate-kd.",
    differs="How the projections are trained is not known. Here they are trained in the generator's turns, at the "
    "student's learning rate, to lower the contrast that the generator raises: untrained projections of two models "
    "have nothing in common. A changed row keeps the label of its row, as in the reimplementation, whatever the "
    "generator writes.",
    example="method: [mate-kd, cilda]",
    recipe="mate-small.yaml",
    teachers="one",
)

ADVERSARIES = (FREELB, FREELB_KD, ADVERSARIAL, MATE_KD, COMBINED_KD, CILDA)
