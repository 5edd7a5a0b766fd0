"""The words of docs/methods.md that no method carries."""

START = """\
# Methods

A method is a point on the axes targets x training x data x structure; an edge of the graph says who teaches. A recipe
takes a named point with `use` and changes any axis. `stillhouse methods` lists them, `stillhouse methods NAME` shows
one. This page is made from the catalogue, `pipeline/methods/` (`python -m docs.generate.methods`).

Formulas are as implemented:

- `z_S`, `z_T`: logits of student and teacher; `y` the label; `C` the number of classes; `p_S = softmax(z_S)`.
- `CE(y, z_S)`: cross-entropy. `KL(p || q)`: from p to q. `tau` is `temperature`, `w` is `teacher_weight`.
- `h_S[j]`, `h_T[k]`: the pooled states of layer j of m of the student and layer k of n of the teacher. `MSE` is the
  mean over dimensions, or classes, of the squared difference; `|h|` is a length.
- The mean over the rows of the global batch is always taken, whatever the number of workers.
- For a regression, which has no softmax, `CE` is the squared error to the label, `tau^2 KL` the squared error to the
  teacher's output.

What is known of a paper is said where it is used: from its authors' code, from its text, from the authors' slides of
2021, from a third-party reimplementation, or from memory and then called not verified. What a term weighs means
nothing without its reduction: code that divides KL by C has other weights than code that does not. So
each method has the reduction that its weights were chosen for, `reduction: mean` where its code divides. Its defaults
are those of the authors' code or paper where they are known; else those of a third party, or ours. `Defaults` says
which, `What differs` where the loss is not theirs.
"""

LAYERS = """\
## Layers and groups

Layers count from 1; 0 is the embeddings. The state of a layer is the mean over a row's own tokens, or its first
token, as the store has it (`pooling`; the papers on BERT read first tokens). `even` and the other rules are resolved
while planning, which writes every layer out, so that a map is the same student however it was given, and refuses one
that the depths or the store do not allow.

The group A(j) of student layer j:

- `even`: layers floor((j-1) n / m) + 1 to floor(j n / m), the regular combination of CKD, "NO" in the tables of
  ALP-KD. `pick` takes the last layer of each group but the last group's: for 6 from 12 (1, 2), (2, 4), ... (5, 10),
  PKD's skip map.
- `overlapping`: the even group, longer by a layer on both sides where there is one: "PO".
- `all`: every layer.
- A list of your own: `groups: [[1, 2], [5, 6]]`, `pairs: [[1, 6]]`.
"""

COMBINED = """\
Where widths differ, `pick` and `attend` learn a projection of the student's state; `concatenate` always does;
`random` projects both sides; `outputs` compares what classifiers say, and `relational` how rows lie to each other,
which no width touches. Projections and classifiers are trained and kept in checkpoints with the student; the saved
model is without them.

Layers are matched while the teacher's logits are followed: in every epoch of `one-phase`, in phase 1 of `annealing`
and of `progressive` (the layers of the teacher whose turn it is), and in `continuation` with the weight of its second
term. Phi scales logits alone.

## Which axes combine

| training | targets `hard`, `smoothed`, `virtual` | targets `teacher` | any structure | several teachers |
| --- | --- | --- | --- | --- |
| `one-phase` | yes | yes | yes | their mean; without layers |
| `annealing` | no | yes | yes | their mean; without layers |
| `continuation` | no | yes | yes | their mean; without layers |
| `progressive` | no | yes | yes, but `outputs` | in turn, with layers |

A structure with targets `hard` or `smoothed` is matched beside them, and needs the teacher's layers alone. So
annealing with ALP is `{use: annealing-kd, structure: {kind: attend, weight: 25}}`;
[combinations.yaml](../recipes/combinations.yaml) has more.

Texts beside the task's own (`data: knn`, `data: minimax-knn`) go with any training and any structure, and need targets
`teacher`: they have no labels. They follow the teacher wherever its logits are followed, by the same term: in
every epoch of `one-phase`, in phase 1 of `annealing` and of `progressive`, in `continuation` with the weight of its
second term. `weight` is a share of what that term weighs for the row itself. Layers are matched on the task's own
rows alone. So annealing with ALP and minimax-kNN is
`{use: annealing-kd, structure: {kind: attend, weight: 25}, data: {kind: minimax-knn, keep: 2}}`.

Where such texts come from is said by `candidates`: neighbours in a bank (by a sentence encoder, or by TF-IDF), texts of
the bank at random (a plain transfer set), words replaced, words filled in by a masked language model, translations
there and back. No text that the task is evaluated on is among them: dev, test and the slice on which the epoch is
selected, compared without case, accents, spacing and punctuation.

What is refused while planning, each in one line:
"""

REFUSED: tuple[tuple[str, str], ...] = (
    (
        "`annealing`, `continuation` or `progressive` without targets `teacher`",
        "they follow logits; use targets: teacher",
    ),
    ("`temperature` or `teacher_weight` with targets `hard` or `smoothed`", "they mean nothing there; leave them out"),
    ("`annealing` or `progressive` in one epoch", "each phase needs one; train for 2 or more"),
    ("`progressive` with one teacher", "it follows several; taught_by: teacher:all, or a list"),
    ("`progressive` with more teachers than its first phase has epochs", "one would have no turn; name fewer"),
    ("`shares` with `progressive`, not one a teacher, or not together 1", "they are of a mean"),
    ("`knn` or `minimax-knn` without targets `teacher`", "candidates have no labels; use targets: teacher"),
    ("`minimax-knn` that keeps all it has", "that is `knn`; keep fewer than k"),
    ("`warmup_epochs` that leave no epoch for candidates", "warm up for fewer"),
    ("candidates without a bank or a maker", "bank: {files: [...]}, or candidates: {NAME: ...}"),
    ("more than one `structure`", "a method has one kind; write another method beside it"),
    ("`pairs: random` between equal depths", "there is one map only; use last, or give pairs"),
    ("several teachers and layers, but for `progressive`", "the layers of which? let one teach, or structure: none"),
    ("several teachers and `outputs`", "classifiers are on one teacher's layers; let one teach"),
    ("several teachers without targets `teacher`", "only logits can be averaged; let one teach"),
    ("`smoothed` or `virtual` with a regression", "there are no classes; give that task its own list under overrides"),
    ("`relational` with `train.micro_batch`", "it compares all rows of a batch; leave it out"),
    ("a layer, a depth or a width that is not there", "the message says which layers there are"),
    ("a layer or pooling that the store leaves out", "store.layers, store.pooling"),
    ("an epoch of a model that keeps only its best", "keep: epochs, in its train or in teacher.finetune"),
)

END = """\
## Selection

The primary metric on a held-out slice of train (10 %, chosen by content) picks the epoch, the later of equals; dev is
only reported. `train.select: dev` selects on dev instead, as the papers do. All methods of a recipe take equal steps
unless it says otherwise.
"""
