"""The parts of docs/methods.md that are not generated from the catalogue of methods."""

START = """\
# Methods

A method has a value on each of four axes: `targets` (the distribution that the student learns), `training` (losses and
schedule), `data` (additional texts) and `structure` (matched layers). Which models teach is not an axis, but the key
`taught_by`. A recipe names a method with `use` and may change any axis. `stillhouse methods` lists all methods,
`stillhouse methods NAME` shows one. This page is generated from the catalogue in `pipeline/methods/`
(`python -m docs.generate.methods`).
"""

FORMULAS = """\
## Formulas

They are as implemented:

- `z_S`, `z_T`: logits of student and teacher; `y` the label; `C` the number of classes; `p_S = softmax(z_S)`.
- `CE(y, z_S)`: cross-entropy. `KL(p || q)`: from p to q. `tau` is `temperature`, `w` is `teacher_weight`.
- `h_S[j]`, `h_T[k]`: the pooled states of layer j of m of the student and layer k of n of the teacher. `MSE` is the
  mean over dimensions, or classes, of the squared difference; `|h|` is a length.
- Every term is the mean over the rows of the global batch, whatever the number of workers.
- For a regression, which has no softmax, `CE` is the squared error to the label, `tau^2 KL` the squared error to the
  teacher's output.

Facts about a paper are given with their source: its authors' code, its text, the authors' slides of 2021, a
third-party reimplementation, or memory, which is then marked "not verified". The weight of a term can be compared only
together with its reduction: code that divides KL by C needs other weights than code that does not. So each method has
the reduction that its weights were chosen for, `reduction: mean` where its code divides. Defaults are those of the
authors' code or paper where they are known, else those of a third party, or our own. `Defaults` gives the source,
`What differs` the deviations from the authors' loss.
"""

LAYERS = """\
## Layers and groups

Layers count from 1; 0 is the embeddings. The state of a layer is the mean over a row's own tokens, or that of its first
token, as `store.pooling` gives it (the papers on BERT use first tokens). `teacher_pooling` lets the student's states,
pooled as `pooling` says, follow states of the teacher that are pooled in another way. Planning replaces `even` and the
other rules by lists of layers. So a rule and the list that it stands for are the same student, and a map that the
depths or the store do not allow is refused before anything runs.

The group A(j) of student layer j:

- `even`: layers floor((j-1) n / m) + 1 to floor(j n / m), the regular combination of CKD, "NO" in the tables of
  ALP-KD. `pick` takes the last layer of each group but the last group's: for 6 from 12 (1, 2), (2, 4), ... (5, 10),
  PKD's skip map.
- `overlapping`: the even group, longer by a layer on both sides where there is one: "PO".
- `all`: every layer.
- Your own list: `groups: [[1, 2], [5, 6]]`, `pairs: [[1, 6]]`.
"""

COMBINED = """\
Where widths differ, `pick` and `attend` learn a projection of the student's state; `concatenate` always does;
`random` projects both sides; `outputs` compares the outputs of classifiers, and `relational` distances and angles
between rows, neither of which depends on the width. Projections and classifiers are trained with the student and kept
in its checkpoints, but not in the saved model.

Layers are matched whenever the teacher's logits are: in every epoch of `one-phase`, in phase 1 of `annealing` and of
`progressive` (there the layers of the current teacher), and in `continuation` with the weight of its second term. Phi
scales only logits.

## Which axes combine

| training | targets `hard`, `smoothed`, `virtual` | targets `teacher` | any structure | several teachers |
| --- | --- | --- | --- | --- |
| `one-phase` | yes | yes | yes | their mean; without layers |
| `annealing` | no | yes | yes | their mean; without layers |
| `continuation` | no | yes | yes | their mean; without layers |
| `progressive` | no | yes | yes, but `outputs` | in turn, with layers |

`structure.weight` is a number above 0, or `auto` (see [the weight of the layers](#the-weight-of-the-layers)).

With targets `hard` or `smoothed`, a structure adds its term to theirs and needs only the teacher's layers. For example,
annealing with ALP is `{use: annealing-kd, structure: {kind: attend, weight: auto}}`;
[combinations.yaml](../recipes/combinations.yaml) has more.

Additional texts (`data: knn`, `data: minimax-knn`) combine with any training and any structure. They have no labels, so
they need targets `teacher`. For them, the same term is used that compares the row's own logits with the teacher's:
term(row) + `weight` x mean over its candidates of term(candidate), in every epoch of `one-phase`, in phase 1 of
`annealing` and of `progressive`, and in `continuation` with the weight of its second term. Layers are matched only on
the task's own rows. For example, annealing with ALP and minimax-kNN is
`{use: annealing-kd, structure: {kind: attend, weight: auto}, data: {kind: minimax-knn, keep: 2}}`.

`candidates` gives the source of such texts: neighbours in a bank (by a sentence encoder, or by TF-IDF), random texts of
the bank (a plain transfer set), replaced words, words filled in by a masked language model, or back-translation. Texts
that the task is evaluated on are never among them: those of dev, test and the slice that selects the epoch, compared
without case, accents, spacing and punctuation.

These combinations are refused while planning, each with a message of one line:
"""

REFUSED: tuple[tuple[str, str], ...] = (
    (
        "`annealing`, `continuation` or `progressive` without targets `teacher`",
        "they train on the teacher's logits; use targets: teacher",
    ),
    (
        "`temperature` or `teacher_weight` with targets `hard` or `smoothed`",
        "they have no effect; leave them out",
    ),
    ("`annealing` or `progressive` in one epoch", "each phase needs an epoch; train for 2 or more"),
    ("`progressive` with one teacher", "it needs several; give taught_by: teacher:all, or a list"),
    ("`progressive` with more teachers than its first phase has epochs", "each teacher needs an epoch; name fewer"),
    ("`shares` with `progressive`", "there is no mean to weight; leave them out"),
    ("`shares` of another number than that of teachers, or of another sum than 1", "give one for each teacher"),
    ("`calibrated` with `data.holdout: 0`", "the temperature is found on the held-out rows; hold some out"),
    ("`knn` or `minimax-knn` without targets `teacher`", "candidates have no labels; use targets: teacher"),
    ("`knn` with `draw` not below `k`", "drawing all is `knn` without `draw`; draw fewer than k"),
    ("`minimax-knn` with `keep` not below `k`", "keeping all is `knn`; keep fewer than k"),
    ("`warmup_epochs` that leave no epoch for candidates", "give fewer"),
    ("`knn` or `minimax-knn` without a bank or a maker", "give bank: {files: [...]}, or candidates: {NAME: ...}"),
    ("`weight: auto` without a structure", "there is no layer term; give a kind, or leave weight out"),
    ("more than one `structure`", "a method has one kind; write a second method"),
    ("`pairs: random` between equal depths", "there is only one such map; use last, or give pairs"),
    (
        "several teachers and layers, but for `progressive`",
        "layers are matched with one teacher's; name one, or structure: none",
    ),
    ("several teachers and `outputs`", "classifiers are fitted on one teacher's layers; name one teacher"),
    ("several teachers without targets `teacher`", "only logits can be averaged; name one teacher"),
    (
        "`smoothed` or `virtual` with a regression",
        "it has no classes; give that task its own methods under overrides",
    ),
    ("`relational` with `train.micro_batch`", "it compares all rows of a batch; leave it out"),
    ("a layer that student or teacher does not have", "the message lists the layers that exist"),
    ("a layer or pooling that is not stored", "add it to store.layers or store.pooling"),
    ("an epoch of a model that keeps only its best", "set keep: epochs in its train, or in teacher.finetune"),
)

WEIGHT = """\
## The weight of the layers

A number for `structure.weight` holds for one reduction, one width and one pair of models. On others, the same number
can give a layer term whose gradient is 100 times as long as that of the labels, and the labels are then hardly learned.
`structure: {weight: auto}` gives a rule instead: when training starts, the weight is set so that the gradient of the
layer term is as long as that of the labels' term.

All named methods that match layers have it, because the constants of their papers are unknown or belong to other
models; `Defaults` gives the constant of each source, and how to set it. The default of a `kind` that is given without a
named method is 1.

- The labels' term is the one on the labels (`hard`, or `smoothed` where the targets are) with weight 1, whatever
  `teacher_weight` is. `annealing` and `progressive` begin without labels: there it is the term on the teacher's logits
  in the first epoch.
- Both gradients are those on the parameters that both terms reach: the student's embeddings, and its layers up to the
  highest that is matched. Neither the head nor projections count.
- They are measured with the student as it starts, on the first four batches of the first epoch, in float32 and without
  dropout. The weight is the mean length of the labels' gradient over the mean length of the layers' gradient, and it
  stays for the whole training. A schedule multiplies it as it does a number, such as `continuation` by 1 - psi.
- `history.json` and the record have it under `layer_weight`: `weight`, `labels_gradient`, `layers_gradient`, and the
  `ratio` of layers to labels at weight 1. It is part of the checkpoint, so a training that is resumed does not measure
  again. The key of the student contains the rule, not the number. Several workers measure what one does.
- Where the layers' gradient is less than 0.0001 of the labels', the training stops with a line that says so: the
  matched states are equal from the start (layer 1 of a student that was cut out of its teacher, followed by itself), or
  they hardly vary.
"""

GRADIENTS_HEADING = """\
### Gradients of the layer methods
"""

MEASURED = """\
The length of the layer term's gradient over that of the labels' term, on the parameters that both reach, when training
starts: at the constant of the method's source, the median over batches and seeds, and in brackets the least and the
greatest. A ratio of 1 is what `auto` sets; the last columns have the weight that does so. The student is layers 1 and 2
of MiniLM, which was fine-tuned as the teacher for one epoch; states are mean-pooled. On another pair of models, other
numbers hold; on another task, too, because the labels' gradient differs: STS-B has squared errors of numbers from 0 to
5. Measured on {date}, {hardware}: `{command}`.
"""

ATTENTION = """\
How concentrated the attention of `alp` is for the same students: the mean over rows of the largest weight (1/6 if all
six layers had the same), and the teacher's layer that has the largest weight most often. The width is 384, so that
`scaled: true` divides the products by 19.6.
"""

ATTENTION_TEMPERATURE = """\
## The temperature of attention

With `attend` (alp), a student layer follows a mixture of the teacher's layers, whose weights are the softmax of the
products h . h_k of its state with theirs. A product is a sum over all dimensions of a state, so it grows with the width
and with the length of the states. Where products differ by more than a few units, the softmax is saturated: nearly all
weight falls on one layer, and `attend` is little more than `pick` with a map that it chose itself. The table above has
measured figures for several of the settings below.

`structure.temperature` divides the products before the softmax; `scaled: true` divides them by the square root of the
width as well.

- A number, 1 by default as in the paper: above 1, the weights are spread over more layers; below 1, over fewer.
- `{annealed: T}`, T above 1: it starts at T and falls by an equal factor from each epoch to the next, to 1 in the last
  epoch in which layers are matched. A student first follows a mean of the layers, and later those of the largest
  products.
- `learned`: each student layer has a temperature of its own, trained with the student from 1 on. It is kept in the
  checkpoints, and not in the saved model.

```yaml
method:
  - alp
  - {use: alp, label: alp-scaled, structure: {scaled: true}}
  - {use: alp, label: alp-annealed, structure: {temperature: {annealed: 20}}}
```

Whether attention is saturated can be read in `history.json`: `attention` of an epoch has a number for each student
layer, the mean over rows of its largest weight. 1 means that every row follows a single layer; with n layers in the
group, 1/n means that all of them count alike. The same numbers are curves (`attention/layer_...`,
[observability.md](observability.md)). `attention_weights` has for each student layer the means of all its weights, in
the order of the teacher's layers; the [page of a report](comparing.md) shows them as a heat map.
"""

END = """\
## Calibrated teachers

A fine-tuned teacher is often surer of its classes than it is right about them. With `targets: {calibrated: true}`, its
stored logits are divided, whenever a student reads them, by the temperature T at which its probabilities fit the labels
of the held-out rows best: the minimum of their mean negative log-likelihood (Guo et al. 2017, On Calibration of Modern
Neural Networks, ICML, eq. 9), searched from 0.1 to 10. So z_T is z_T / T in every formula of this page, for the task's
rows and for candidates alike. The method's own `temperature` comes on top of it.

```yaml
method: [vanilla-kd, {use: vanilla-kd, label: calibrated, targets: {calibrated: true}}]
```

T is the artifact of a stage of its own (`calibrate`), one for each model and task. The store stays as it is and serves
calibrated students and others; `stillhouse show calibrate@TASK` prints T, the likelihood and the expected calibration
error before and after. Each of several teachers, and each member of an ensemble, is divided by its own T. For a
regression, which has no softmax, `calibrated` has no effect.

The held-out rows also select the epoch of a teacher that is fine-tuned here, and that of every student. One number
fitted to them hardly makes that selection more optimistic, and dev is not touched. Three cases deserve care: few
held-out rows, or rows that the teacher labels all right, do not determine T, which the stage warns of; a teacher that
is given fine-tuned may have been trained on them, which makes T too low and is warned of while planning; and
`candidates.NAME.confidence` and the classifiers of `structure: outputs` use the teacher's logits as they are stored.

## Selection

The best epoch is the one with the highest score on a held-out slice of train; of equal epochs, the later. The slice is
10 % of train, but at least 300 rows unless that is more than a quarter, and its rows are chosen by their content. The
score is that of the task's first metric, unless the task names another (`task.select`; MRPC selects by accuracy). Dev
is only reported. All methods of a recipe take equally many steps, unless `equal_steps` is false.

- `train.select: dev` selects on dev instead, as the papers do.
- `train.select: last` keeps the last epoch and selects none; nothing needs to be held out for it.
- `train.select_by: likelihood` selects the epoch with the lowest mean negative log-likelihood of the labels (for a
  regression, the lowest mean squared error). It uses how sure a model is of every row, where accuracy counts the few
  rows that change sides, so it varies less on a small slice; and it prefers an earlier epoch once a model becomes
  surer than it is right. `teacher.finetune` has the same keys, and there likelihood is the default: a teacher that is
  selected by it has softer outputs, from which students learned more (docs/results.md, gains).

A method of two phases (annealing, progressive) starts its second phase from the epoch of the first that this rule
selects, and ends with the one that it selects among all epochs of both phases. A plan warns where the first phase has
fewer epochs than `max_temperature`, so that temperatures are skipped, and where a single epoch is left for the labels.

## Learning rates

A method that is compared at one learning rate may be the better one at another. With `rates`, each method gets the
best of several:

```yaml
method:
  - no-kd
  - {use: vanilla-kd, rates: [1.0e-4, 2.0e-4, 4.0e-4]}    # of this method alone
train: {rates: [5.0e-5, 1.0e-4, 2.0e-4]}                  # of every method that gives no rate of its own
sweep_seed: 100                                           # default: 1000003; none of seeds
```

For each method and student, a training is run at every rate with `sweep_seed`, whose students are in no report. The
rate whose training has the best selected epoch is taken for the students of all `seeds`: the highest score on the split
that selects epochs, of equal scores the lowest loss; with `select_by: likelihood` the reverse. So dev is not looked at,
unless `train.select` is `dev`. Three rates cost three further trainings for each method and student, however many seeds
there are; the teacher's stored outputs are the same. A sweep's trainings are `distil/vanilla-kd/six/sweep-1e-4@sst2`
and so on in the plan. The chosen rate is `learning_rate` in the report's JSON, and stands with the scores of all rates
in the record (`stillhouse show`) and in `history.json`. Where it is the smallest or the largest of three rates or
more, a warning says so: give further rates on that side.

A student that is taught by itself, and its first generation, have a sweep each.
"""

EMBEDDINGS = """\
## Sentence embeddings

These are for tasks of the [kind `embedding`](recipe.md#sentence-embeddings), and for no others: they read no label and
no logits, so they are no points on the four axes. e is the embedding of a text, of the student (S) and of the teacher
(T); D is the width of an embedding.
"""
