"""Methods that need no teacher: plain labels, smoothed labels, and labels of a virtual teacher."""

from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import Hard, Smoothed, Virtual
from stages.specs.axes.training import OnePhase
from stages.specs.method import Method

NO_KD = NamedMethod(
    name="no-kd",
    title="No distillation",
    paper="-",
    method=Method(targets=Hard()),
    formula="CE(y, z_S)",
    scale="Mean over rows.",
    defaults="There are no settings. This is the baseline of every method: NKD in the tables of ALP-KD.",
    differs="-",
    example="method: no-kd",
    recipe="quickstart.yaml",
    teachers="none",
    taught_by=None,
)

LABEL_SMOOTHING = NamedMethod(
    name="label-smoothing",
    title="Label smoothing",
    paper="Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision, CVPR, section 7",
    method=Method(targets=Smoothed(epsilon=0.1)),
    formula="CE(q', z_S)\n"
    "q' = (1 - epsilon) q + epsilon u, q the label as one-hot, u = 1 / C unless distribution gives another",
    scale="Summed over classes, mean over rows.",
    defaults="epsilon 0.1 is the paper's.",
    differs="The code of Yuan et al. 2020 puts epsilon / (C - 1) on the wrong classes and 1 - epsilon on the right "
    "one; the paper, and this, put epsilon / C on each. The gradient is that of (1 - epsilon) CE + epsilon KL(u || "
    "p_S): KD from a teacher with uniform outputs. It cannot be defined for a regression.",
    example="method: {use: label-smoothing, targets: {epsilon: 0.05}}",
    recipe="teacher-free.yaml",
    teachers="none",
    taught_by=None,
)

VIRTUAL_TEACHER = NamedMethod(
    name="virtual-teacher",
    title="Teacher-free KD by a virtual teacher (Tf-KD reg)",
    paper="Yuan et al. 2020, Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR, section 5",
    method=Method(targets=Virtual(correct=0.99), training=OnePhase(temperature=20.0, teacher_weight=0.1)),
    formula="(1 - w) CE(y, z_S) + w tau^2 KL(softmax(z_T / tau) || softmax(z_S / tau))\n"
    "z_T = log p_d, p_d = correct on the label, (1 - correct) / (C - 1) on any other class",
    scale="KL summed over classes, mean over rows. The code multiplies the mean over classes by 100 for the 100 "
    "classes of CIFAR-100, which is the sum.",
    defaults="correct 0.99, tau 20 and w 0.1 are the authors' code's for ResNet18 on CIFAR-100. For MobileNetV2 it has "
    "tau 40, w 0.95 and the mean over classes.",
    differs="The code applies the softmax at temperature tau to the probabilities 0.99 and 0.01 themselves, which is "
    "nearly uniform (two classes, tau 20: 0.512 and 0.488), leaves the student untempered, and has no "
    "tau^2. Here probabilities become logits first and both sides are tempered, as the paper's equation has it; "
    "tau^2 keeps the term's gradient from vanishing with tau. At the same w and tau the gradient of the released "
    "term is about a hundredth of ours for two classes: with z_S = 0, tau 20 and w 0.1 it is 0.0012, ours 0.1144. "
    "It cannot be defined for a regression.",
    example="method: {use: virtual-teacher, targets: {correct: 0.9}}",
    recipe="teacher-free.yaml",
    teachers="none",
    taught_by=None,
)

LABELS = (NO_KD, LABEL_SMOOTHING, VIRTUAL_TEACHER)
