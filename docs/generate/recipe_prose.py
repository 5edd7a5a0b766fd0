"""The words of docs/recipe.md that no model carries."""

START = """\
# The recipe

A recipe is a YAML file that says what to compress and how. `stillhouse plan RECIPE` shows what it would do,
`stillhouse run RECIPE` does it. This page is made from the models that read the file; so is
`docs/recipe.schema.json`, which editors check a recipe against as you type
(`# yaml-language-server: $schema=../docs/recipe.schema.json` as its first line).

`name`, `task`, `teacher`, `student` and `method` are needed; all else has a default. The shortest recipe:

```yaml
name: first
task: sst2
teacher: {model: roberta-large, finetune: {}}
student: {model: distilroberta-base}
method: vanilla-kd
```

One with most of what there is:
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
  - {from_teacher: [0, 2, 4]}                        # its label is layers-0-2-4
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

| written | means |
| --- | --- |
| `teacher` | the recipe's teacher |
| `NAME` | a model in `models`, trained as it says there: an assistant, a generation, a smaller or a poorer model |
| `teacher:2`, `NAME:2` | that model after the second epoch of its training, where that says `keep: epochs` |
| `teacher:all`, `NAME:all` | that model after each epoch, in order: as many teachers as there are epochs |
| `NAME` with `members` | an ensemble: its members, with its shares |
| `itself` | the same student from the same start, with the same seed and `train`, by `no-kd`; of students alone |

Each has a store of its own, that any number of students read, and a row of its own in reports, such as
`model:teacher:2`. Of several teachers the logits are averaged, equally unless `targets.shares` says otherwise; with
`training: progressive` they are followed one after the other, each for an epoch of the first phase at least. Layers
are followed of one teacher, or in turn of several that are equally deep. Of `store.layers`, a model that is shallower
than the teacher stores those it has.

`keep: epochs` belongs to what a training is: a recipe that adds it later trains that model anew, and whomever it
teaches (its best epoch has the same weights as before, on a CPU bit for bit). Say it from the start where epochs may
be asked for.

An ensemble teaches alone, and is no member of another: name its members instead. Its shares are its own, so the method
that it teaches has none. It is scored from the evaluations of its members.

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

## Lists and short forms

`task`, `student`, `method` and `seeds` may be lists: each task x student x method x seed is one training, in one
graph, in which what is shared is built once. A single value stands for a list of one. A task and a method may be
plain names. Nothing else is a list of alternatives.

Labels and names become parts of file names and of reports. Labels are letters, digits, `.`, `_` and `-`; names of
tasks and models have no dots. Labels of students and of methods must differ; two entries that would get the same one
need a `label`. No method is labelled `teacher`, which is what reports call the teacher itself; no model is named so,
nor `itself`.

## How `train` adds up

The defaults; over them the recipe's `train`; over that `overrides.TASK.train`; over that the method's own `train`.
The teacher's `finetune` starts from the defaults, not from `train`. The defaults are those common for GLUE: 3 epochs
of batches of 32 at up to 5e-5 (Devlin et al. 2019, appendix A.3), weight decay 0.01 and clipping at 1.0 (the code of
that paper), warm-up over 6 % of the steps (Liu et al. 2019, table 10). `annealing` and `progressive` need at
least 2 epochs, one for each phase.

## Overrides

`overrides.TASK` is merged over the recipe for that task alone. Blocks merge key by key; lists and single values
replace. A block at `student` is merged into every student; `method` is always replaced, and there a plain name may
also be the label of one of the recipe's methods. Label smoothing, for one, cannot be defined for a regression, so it
is left out there:

```yaml
task: [mrpc, stsb]
method: [no-kd, label-smoothing, vanilla-kd]
overrides:
  stsb: {method: [no-kd, vanilla-kd]}
```

A key whose value is `null` counts as left out. Under `overrides`, that takes a key away for one task:

```yaml
task: [sst2, mnli]
overrides:
  mnli: {teacher: {model: roberta-large-mnli, finetune: null, labels: [contradiction, neutral, entailment]}}
```

## From the command line

`--set a.b=c` (repeatable) changes a key before anything is judged; the value is read as YAML, and a number names a
place in a list, from 0: `--set train.epochs=3 --set student.0.label=six --set 'seeds=[0, 1]'
--set teacher.finetune=null`. `--storage URL` takes the place of `storage`. Relative paths, in a recipe too, start at
the current directory.

## YAML

Read as UTF-8, with the scalars of YAML 1.2: only `true` and `false` are booleans, so `no`, `yes`, `on` and `NO` are
words; `1e-5` is a number; dates and `1:30` are words. A key may stand once in its block. A key with nothing behind
it is refused; write `{}` for a block of defaults. Anchors and aliases work; tags do not.

## Errors

A recipe is judged as a whole before any work starts. What is wrong is said in one line: the place in the file (dots
between keys, numbers from 0 for items of a list), the value, what would be right.

```
recipes/sst2.yaml: train.epoch: unknown key; did you mean epochs?
recipes/sst2.yaml: method.1: vanila-kd is no method; did you mean vanilla-kd?
recipes/sst2.yaml:7: not YAML: mapping values are not allowed here
```
"""
