"""Methods that train the student on additional texts beside the task's own rows."""

from pipeline.methods.edges import FORMULA, SUMMED
from pipeline.methods.named import NamedMethod
from stages.specs.axes.data import Minimax, Neighbours
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.method import Method

PAPER = (
    "Kamalloo et al. 2021, Not Far Away, Not So Close: Sample Efficient Nearest Neighbour Data Augmentation via "
    "MiniMax, Findings of ACL"
)

TRANSFER = NamedMethod(
    name="transfer",
    title="Unlabelled transfer set: random texts of the bank",
    paper="Bucila et al. 2006, Model Compression, KDD; Hinton et al. 2015, Distilling the Knowledge in a Neural "
    "Network, arXiv:1503.02531",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.5),
        data=Neighbours(k=8, draw=1),
    ),
    formula=f"{FORMULA}\n+ weight w tau^2 KL(softmax(z_T[i] / tau) || softmax(z_S[i] / tau))\n"
    "i one of the row's 8 texts, drawn anew in each epoch",
    scale=f"{SUMMED} Additional texts: mean over those of a row, then over rows.",
    defaults="tau 2 and w 0.5 are those of vanilla-kd. 8 texts for each row, of which a step uses one, are ours: the "
    "teacher labels 8 texts a row once, and an epoch costs twice that of vanilla-kd. `draw: 4` uses four in a step, "
    "`{use: knn, candidates: transfer}` all.",
    differs="In the papers a transfer set may stand alone (from memory, not verified); here its texts stand beside the "
    "task's own rows, whose labels are used, too. For pairs, random texts make no set to learn from, as they are "
    "nearly always unlike each other: there half of the candidates are neighbours (see docs/candidates.md).",
    example="bank: {files: [sentences.parquet], text: text}\nmethod: [no-kd, vanilla-kd, transfer]",
    recipe="transfer-small.yaml",
    candidates="transfer",
)

KNN = NamedMethod(
    name="knn",
    title="kNN augmentation: all K neighbours of a row",
    paper="Du et al. 2021, Self-training Improves Pre-training for Natural Language Understanding, NAACL; as the "
    "baseline of minimax-kNN",
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.5),
        data=Neighbours(k=8, weight=1.0),
    ),
    formula=f"{FORMULA}\n+ weight w mean_i tau^2 KL(softmax(z_T[i] / tau) || softmax(z_S[i] / tau))\n"
    "i = 1 ... K the row's candidates",
    scale=f"{SUMMED} Candidates: mean over those of a row, then over rows.",
    defaults="K 8 is the slides'. tau 2, w 0.5 and a weight of the candidates equal to w (`weight: 1`) are those of "
    "the released minimax-kNN code.",
    differs="The slides' vanilla-8NN. The teacher gives candidates soft labels, once; Du et al. train on hard labels "
    "of the teacher. The loss of a row's candidates is their mean, so that more candidates have no more weight. This "
    "is as in the code, where each candidate is an item of its own together with its row.",
    example="bank: {files: [sentences.parquet], text: text}\nmethod: [vanilla-kd, knn]",
    recipe="minimax-small.yaml",
)

MINIMAX = NamedMethod(
    name="minimax-knn",
    title="Minimax-kNN: the neighbours of largest divergence",
    paper=PAPER,
    method=Method(
        targets=TeacherTargets(),
        training=OnePhase(temperature=2.0, teacher_weight=0.5),
        data=Minimax(k=8, keep=4, weight=1.0),
    ),
    formula=f"{KNN.formula.rpartition(chr(10))[0]}\n"
    "i the keep of the row's K candidates of greatest tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))",
    scale=KNN.scale,
    defaults="K 8 and keep 4 (k1) are the slides'; the README of the code keeps 1. tau 2, w 0.5 and the weight are "
    "the code's. No warm-up epochs. The example in the README has 7 warm-up epochs in a training of 6, so it never "
    "augments; such settings are refused here.",
    differs="The code scores all K candidates again for each one that is kept (32 forwards a row for 4 of 8); here "
    "each is scored once, 8. It scores with dropout on; here it is off, so that the selection is not random. The "
    "scores are the term that is then trained: for `annealing`, the squared error. `every: n` "
    "scores all candidates when each n-th epoch begins (the code's `minimax_update_interval` does nothing). Candidates "
    "may come from anywhere (`candidates`), also for pairs and regressions.",
    example="bank: {files: [sentences.parquet], text: text}\nmethod: {use: minimax-knn, data: {k: 8, keep: 2}}",
    recipe="minimax-small.yaml",
)

CANDIDATES = (TRANSFER, KNN, MINIMAX)
