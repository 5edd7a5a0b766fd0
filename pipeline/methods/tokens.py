"""Methods that compare layers token by token."""

from pipeline.methods.named import NamedMethod
from stages.specs.axes.targets import TeacherTargets
from stages.specs.axes.training import LayersFirst
from stages.specs.layers import EveryToken
from stages.specs.method import Method

TINYBERT = NamedMethod(
    name="tinybert",
    title="TinyBERT: states and scores of every token, then the logits",
    paper="Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding, Findings of EMNLP",
    method=Method(targets=TeacherTargets(), training=LayersFirst(first_phase=0.77), structure=EveryToken()),
    formula="phase 1: weight (sum_i MSE(W h_S[i], h_T[i n / m]) + sum_(i > 0) MSE(a_S[i], a_T[i n / m]))\n"
    "phase 2: KL(softmax(z_T) || softmax(z_S)) / C; of a regression MSE(z_S, z_T)\n"
    "h the states at every token, i = 0 ... m (0 the embeddings), a the attention scores before the softmax",
    scale="Phase 1: mean over the tokens, or pairs of tokens, of a row, and over dimensions, or heads; sum over "
    "layers, mean over rows; one projection W for all layers. Phase 2: KL divided by the number of classes, "
    "which has the gradient of the code's soft cross-entropy.",
    defaults="10 + 3 epochs (`first_phase: 0.77`), the map i n / m, the weight 1 and temperature 1 are those of the "
    "released code and its README. The label has no part in either phase.",
    differs="The means are over real tokens; those of the code include padding. The teacher runs without dropout, "
    "once, and its states are read from stores; in the code it runs in training mode in each step. On STS-B "
    "phase 2 follows the teacher, as the paper does; the code trains on the labels. Both phases have one "
    "learning rate (README: 5e-5, then 3e-5). General distillation before fine-tuning is a model of its own, "
    "from which students start (`pretrain: {states: ...}` of an entry of `models`). The paper augments the data "
    "of both phases; here `data: knn` adds texts of the maker `tinybert` to phase 2, and phase 1 has the task's "
    "own rows. Teacher and student need one tokenizer and as many attention heads; `scores: false` matches the "
    "states alone.",
    example="method: tinybert\n"
    "# With TinyBERT's augmentation in the second phase, in a recipe with a bank or without:\n"
    "# candidates: {tinybert: {by: tinybert, model: bert-base-uncased, vectors: glove.6B.300d.txt}}\n"
    "# method: {use: tinybert, data: {kind: knn, k: 20}}",
    recipe="slides-small.yaml",
    teachers="one",
    candidates="tinybert",
)

TOKENS = (TINYBERT,)
"""In the order of ``docs/methods.md``."""
