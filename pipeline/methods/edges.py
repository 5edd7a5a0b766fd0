"""Methods with the vanilla loss. They differ in the models that teach, which are edges of the graph."""

from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import OnePhase
from stages.specs.method import Method

FORMULA = "(1 - w) CE(y, z_S) + w tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))"
"""The vanilla loss."""

SUMMED = "KL summed over classes, mean over rows: PyTorch's `batchmean`."
DIVIDED = (
    "KL divided by the number of classes, mean over rows (`reduction: mean`), as in the authors' code: their w is "
    "worth 1 / C of vanilla-kd's."
)

VANILLA = NamedMethod(
    name="vanilla-kd",
    title="Vanilla KD",
    paper="Hinton et al. 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=2.0, teacher_weight=0.5)),
    formula=FORMULA,
    scale=SUMMED,
    defaults="tau 2 and w 0.5 are those of the released minimax-kNN code (its README says tau 5). Glitter, of the same "
    "authors, uses tau 12 on MNLI; the best KD runs in the code of PKD have tau 5 to 20 and w 0.2 to 0.7.",
    differs="-",
    example="method: {use: vanilla-kd, training: {temperature: 5, teacher_weight: 0.7}}",
    recipe="quickstart.yaml",
)

RKD = NamedMethod(
    name="rkd",
    title="Regular KD: RKD in the tables of ALP-KD",
    paper="Passban et al. 2021, ALP-KD: Attention-Based Layer Projection for Knowledge Distillation, AAAI, tables 1 "
    "and 3",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=1.0, teacher_weight=0.2)),
    formula=FORMULA,
    scale=SUMMED,
    defaults="Labels 0.8, logits 0.2 and tau 1 are the defaults of a third-party reimplementation (IKMLab/LAD); those "
    "of the tables are not known. The same as in alp, so that the two differ only in the layers.",
    differs="No code was released. `RKD` is *Regular* KD (README of CKD's code: alpha soft + (1 - alpha) hard), not "
    "the Relational KD of Park et al., which is relational-kd.",
    example="method: [no-kd, rkd, alp]",
    recipe="layers-12-to-4.yaml",
)

TAKD = NamedMethod(
    name="takd",
    title="Teacher-assistant KD",
    paper="Mirzadeh et al. 2020, Improved Knowledge Distillation via Teacher Assistant, AAAI",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=2.0, teacher_weight=0.5, reduction="mean")),
    formula=FORMULA,
    scale=DIVIDED,
    defaults="The paper has none: for every pair of models the code searches tau in 1, 2, 5, 10, 15, 20 and w in 0.05 "
    "to 1. tau 2 and w 0.5 are those of vanilla-kd. The slides: RoBERTa-base between RoBERTa-large and "
    "DistilRoBERTa, BERT-base between BERT-large and BERT-small.",
    differs="The code keeps the assistant's best epoch on the test split; here a held-out slice of train picks it. Its "
    "learning rate for ResNets starts at a tenth of what its schedule means (`epoch < int(epoch / 2)` is never "
    "true). `training: {reduction: sum}` makes the loss that of vanilla-kd, so that only the teacher differs.",
    example="models: {assistant: {model: roberta-base, method: vanilla-kd, taught_by: teacher}}\n"
    "method: [vanilla-kd, {use: takd, taught_by: assistant}]",
    recipe="chain-roberta.yaml",
    teachers="assistant",
    taught_by=None,
)

BORN_AGAIN = NamedMethod(
    name="born-again",
    title="Born-again networks",
    paper="Furlanello et al. 2018, Born Again Neural Networks, ICML",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=2.0, teacher_weight=0.5)),
    formula=FORMULA,
    scale=SUMMED,
    defaults="tau 2 and w 0.5 are those of vanilla-kd. The paper's weighting was not verified; from memory, it trains "
    "on the teacher's outputs at tau 1, with or without labels: `training: {temperature: 1, teacher_weight: 1}` is "
    "without.",
    differs="No code of the authors was found; a third-party reimplementation divides KL by the classes. Each "
    "generation is an entry of `models` with the student's architecture and a seed of its own, taught by the one "
    "before; `members` makes their ensemble. The paper's variants CWTM and DKPP are not here.",
    example="models:\n"
    "  one: {model: roberta-base, method: born-again, taught_by: teacher, train: {seed: 1}}\n"
    "  two: {model: roberta-base, method: born-again, taught_by: one, train: {seed: 2}}\n"
    "method: {use: born-again, taught_by: two}",
    recipe="born-again.yaml",
    teachers="one",
)

MULTI_TEACHER = NamedMethod(
    name="multi-teacher",
    title="Several teachers at once",
    paper="Bucila et al. 2006, Model Compression, KDD; Hinton et al. 2015, Distilling the Knowledge in a Neural "
    "Network",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=2.0, teacher_weight=0.5)),
    formula=f"{FORMULA}\nz_T = sum_i s_i z_i over teachers i, s_i = 1 / their number unless shares gives others",
    scale=SUMMED,
    defaults="tau 2 and w 0.5 are those of vanilla-kd; equal shares.",
    differs="A mean of logits is the geometric mean of the teachers' distributions, scaled to sum to 1. Bucila et al. "
    "match the ensemble's outputs by regression.",
    example="models:\n"
    "  second: {model: bert-base-uncased, method: no-kd}\n"
    "method: {use: multi-teacher, taught_by: [teacher, second], targets: {shares: [0.7, 0.3]}}",
    recipe="born-again.yaml",
    teachers="many",
    taught_by=None,
)

SELF_KD = NamedMethod(
    name="self-kd",
    title="Teacher-free KD by self-training (Tf-KD self)",
    paper="Yuan et al. 2020, Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR, section 5",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=6.0, teacher_weight=0.95, reduction="mean")),
    formula=FORMULA,
    scale=DIVIDED,
    defaults="tau 6 and w 0.95 are the authors' code's for ResNet18 and ResNet50 on CIFAR-100.",
    differs="For ResNet18 the code multiplies KL's mean over 100 classes by 50: half the sum, which is what the mean "
    "over two classes is here. For most models it multiplies by 1, and the term is a hundredth of the sum.",
    example="method: self-kd",
    recipe="teacher-free.yaml",
    teachers="itself",
    taught_by="itself",
)

REVERSE_KD = NamedMethod(
    name="reverse-kd",
    title="Reversed KD: a small model teaches a large one",
    paper="Yuan et al. 2020, Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR, section 2",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=20.0, teacher_weight=0.6, reduction="mean")),
    formula=FORMULA,
    scale=DIVIDED,
    defaults="tau 20 and w 0.6 are the authors' code's for ResNet18 taught by MobileNetV2 on CIFAR-100.",
    differs="Their mean is over 100 classes, ours over the task's: the term is larger with few classes.",
    example="models: {small: {config: {model: roberta-base, num_hidden_layers: 2}, method: no-kd}}\n"
    "method: {use: reverse-kd, taught_by: small}",
    recipe="teacher-free.yaml",
    teachers="smaller",
    taught_by=None,
)

DEFECTIVE_KD = NamedMethod(
    name="defective-kd",
    title="Defective KD: a poorly trained teacher",
    paper="Yuan et al. 2020, Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR, section 2",
    method=Method(targets=TeacherTargets(), training=OnePhase(temperature=20.0, teacher_weight=0.95, reduction="mean")),
    formula=FORMULA,
    scale=DIVIDED,
    defaults="tau 20 and w 0.95 are the authors' code's for MobileNetV2 taught by a ResNet18 after its first epoch.",
    differs="Their teachers are defective after 1 of 200 epochs, or 50 of 200. A pretrained encoder is much better "
    "than that after one epoch: the teacher here is only less trained. The mean is over the task's classes, not 100.",
    example="teacher: {model: roberta-large, finetune: {epochs: 4, keep: epochs}}\n"
    "method: {use: defective-kd, taught_by: teacher:1}",
    recipe="teacher-free.yaml",
    teachers="early",
    taught_by=None,
)

EDGES = (VANILLA, RKD, TAKD, BORN_AGAIN, MULTI_TEACHER, SELF_KD, REVERSE_KD, DEFECTIVE_KD)
