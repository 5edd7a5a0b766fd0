"""Recipes that are refused, and the line of each error: place, value, what would be right."""

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RequestError
from pipeline.recipe import load, parse

TWO = """
name: two
task: [sst2, stsb]
teacher: {model: big, finetune: {epochs: 2}}
student: {label: six, model: little}
method: [no-kd, vanilla-kd]
train: {epochs: 4}
"""


def refusal(path: Path, *sets: str) -> str:
    """The error of the recipe ``TWO`` with these changes, without the path."""
    path.write_text(TWO, "utf-8")
    with pytest.raises(RequestError) as caught:
        load(path, sets)
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


MINE = "task={name: mine, files: {train: a}, "

REFUSALS = {
    # keys
    "train.epoch=3": "train.epoch: unknown key; did you mean epochs?",
    "methods=[no-kd]": "methods: unknown key; did you mean method?",
    "banks={files: [x]}": "banks: unknown key; did you mean bank?",
    "student.labl=x": "student.labl: unknown key; did you mean label?",
    "teacher.finetune.epoch=3": "teacher.finetune.epoch: unknown key; did you mean epochs?",
    "resources.distill={}": "resources.distill: unknown key; did you mean distil?",
    "train.seed=3": "train.seed: unknown key; students are trained with each of the recipe's seeds: [...]",
    "method={use: no-kd, train: {max_length: 9}}": "method.train.max_length: unknown key; it is one for the ",
    "name=null": "name: missing, and needed",
    "teacher={}": "teacher.model: missing, and needed",
    # values
    "train.epochs=0": "train.epochs: 0, must be at least 1",
    "teacher.least=0.8": "teacher.least: 0.8, must be a score x 100, as in reports: 80 for 0.8",
    "teacher.least=0.57": "teacher.least: 0.57, must be a score x 100, as in reports: 57 for 0.57",
    "teacher.least=101": "teacher.least: 101, must be at most 100",
    "train.epochs=true": "train.epochs: true, must be a whole number",
    "train.epochs='3'": 'train.epochs: "3", must be a whole number',
    "train.epochs=2.5": "train.epochs: 2.5, must be a whole number",
    "train.learning_rate=fast": "train.learning_rate: fast, must be a number",
    "train.learning_rate=0": "train.learning_rate: 0, must be above 0",
    "train.optimizer=adam": "train.optimizer: adam, must be adamw or sgd",
    "train.optimizer={kind: adamw, momentum: 0.9}": 'train.optimizer: {"kind": "adamw", "momentum": 0.9} momentum is ',
    "train.schedule={kind: steps, at: [0.5, 0.2]}": "train.schedule: ",
    "train={optimizer: sgd, weight_decay: 0.1}": "train.weight_decay: 0.1 is AdamW's, but the optimizer is sgd; ",
    "teacher.finetune={optimizer: sgd, weight_decay: 0.1}": "teacher.finetune.weight_decay: 0.1 is AdamW's, but ",
    "train.micro_batch=0": "train.micro_batch: 0, must be at least 1",
    "train.compile=maybe": "train.compile: maybe, must be true or false",
    "train.rates=[1.0e-4]": "train.rates: [0.0001], needs at least 2",
    "train.rates=[1.0e-4, 1.0e-4]": "train.rates: [0.0001, 0.0001], must be given once each, 0.0001 is repeated",
    "train.rates=[0, 1.0e-4]": "train.rates.0: 0, must be above 0",
    "train={rates: [1.0e-4, 2.0e-4], learning_rate: 1.0e-4}": "train.rates: [0.0001, 0.0002], but train.learning_rate "
    "is given beside it; leave one out",
    "method={use: no-kd, rates: [1.0e-4, 2.0e-4], train: {learning_rate: 1.0e-4}}": "method.rates: [0.0001, 0.0002], "
    "but train.learning_rate is given beside it; leave one out",
    "method={use: no-kd, train: {rates: [1.0e-4, 2.0e-4]}}": "method.train.rates: unknown key; a method has them ",
    "teacher.finetune={rates: [1.0e-4, 2.0e-4]}": "teacher.finetune.rates: unknown key; only students have them; give ",
    "models.a={model: x, method: no-kd, train: {rates: [1.0e-4, 2.0e-4]}}": "models.a.train.rates: unknown key; only ",
    "sweep_seed=0": "sweep_seed: 0 is one of seeds, whose students are reported; ",
    "data.holdout_min_rows=2001": "data.holdout_min_rows: 2001, must be at most 2000",
    "seeds=[0, 1000003]": "sweep_seed: 1000003 is one of seeds, whose students are reported; give a number that is ",
    "train.select_by=loss": "train.select_by: loss, must be metric or likelihood",
    "train={select: last, select_by: likelihood}": "train.select_by: likelihood selects the best epoch, but select: ",
    "teacher.finetune={select: last, select_by: likelihood}": "teacher.finetune.select_by: likelihood selects the ",
    "method={use: no-kd, train: {select: last, select_by: likelihood}}": "method.train.select_by: likelihood selects ",
    "method={use: pkd, structure: {pairs: []}}": "method.structure.pairs: ",
    "method={use: pkd, structure: {weight: 0}}": "method.structure.weight: 0, must be above 0",
    "method={use: alp, structure: {temperature: 0}}": "method.structure.temperature: 0, must be above 0",
    "method={use: alp, structure: {temperature: {annealed: 1}}}": (
        "method.structure.temperature.annealed: 1, must be above 1"
    ),
    "method={use: alp, structure: {temperature: falling}}": "method.structure.temperature: falling, must be learned ",
    "method={use: pkd, structure: {weight: automatic}}": "method.structure.weight: automatic, must be auto or a number",
    "method={use: vanilla-kd, structure: {weight: auto}}": (
        "method.structure.weight: auto, but structure is none, which matches no layers; give a kind, such as attend, "
    ),
    "method={use: pkd, structure: {kind: none, weight: auto}}": "method.structure.weight: auto, but structure is none",
    "method={use: pkd, structure: {groups: even}}": "method.structure.groups: unknown key of pick; ",
    "method={use: pkd, structure: alp}": "method.structure: alp is no kind of structure; ",
    "train.precision=half": "train.precision: half, must be float32 or bfloat16",
    "data.holdout=0.5": "data.holdout: 0.5, must be below 0.5",
    "name=2024": "name: 2024, must be a text in quotes",
    "name=a/b": "name: a/b, must be letters, digits, _ and -, and . in labels, ",
    "student.label=..": "student.label: .., must be letters, ",
    "equal_steps=no": "equal_steps: no, must be true or false",
    "storage=''": 'storage: "", must not be empty',
    "train=3": "train: 3, must be a block of keys",
    "seeds=[0, 0]": "seeds: [0, 0], must be given once each, 0 is repeated",
    "seeds=[]": "seeds: [], needs at least 1",
    "seeds=-1": "seeds: -1, must be at least 0",
    "seeds=[0, x]": "seeds.1: x, must be a whole number",
    "limits.store_bytes=50GiB": "limits.store_bytes: 50GiB, must be a size above 0, such as 50GB; ",
    "limits.store_bytes=0.5B": "limits.store_bytes: 0.5B, must be a size above 0",
    "resources.teach.gpus_per_worker=1.5": "resources.teach.gpus_per_worker: 1.5, must be a fraction of one GPU ",
    "resources.teach.gpus_per_worker=-1": "resources.teach.gpus_per_worker: -1, must be at least 0",
    "resources.teach.custom={GPU: 1}": 'resources.teach.custom: {"GPU": 1}, must not name GPU; it is gpus_per_worker',
    "resources.teach.custom={disk: 0}": 'resources.teach.custom: {"disk": 0}, must have amounts above 0, disk has 0',
    "limits.hours=0": "limits.hours: 0, must be ",
    "limits.hours=6h": "limits.hours: 6h, must be ",
    "limits.pending=soon": "limits.pending: soon, must be a time, such as 10m; units: s, m, h, d; ",
    "resources.distil.trainings_per_worker=65": "resources.distil.trainings_per_worker: 65, must be at most 64",
    "resources.distil.trainings_per_worker=0": "resources.distil.trainings_per_worker: 0, must be at least 1",
    "resources.distil.trainings_per_worker=1.5": "resources.distil.trainings_per_worker: 1.5, must be a whole number",
    "resources.distil={trainings_per_worker: 4, workers: 2}": "resources.distil.trainings_per_worker: 4, but workers "
    "is 2, and such a training takes its workers whole; leave one of them out",
    "resources.finetune={trainings_per_worker: 4, gpus_per_worker: 0}": "resources.finetune.trainings_per_worker: 4, "
    "but gpus_per_worker is 0, and trainings can share a worker on a GPU only; leave one of them out",
    "resources.teach.trainings_per_worker=4": "resources.teach.trainings_per_worker: 4, but only finetune and distil ",
    "resources.teach.workers=0": "resources.teach.workers: 0, must be at least 1",
    # tasks and data
    "task=sst3": "task: sst3 is no built-in task; did you mean sst5?",
    "task=[sst2, {name: sst3}]": "task.1.name: sst3 is no built-in task; did you mean sst5?",
    "task=[sst2, 3]": "task.1: 3, must be a name or a block of keys",
    "task=[sst2, rte, sst2]": "task.2: sst2 stands twice in the recipe",
    "task=[]": "task: [], needs at least 1",
    f"{MINE}labels: [a, b]}}": "task.text: missing, and needed",
    f"{MINE}text: a}}": "task: mine needs exactly one of labels and regression: true",
    f"{MINE}text: a, labels: [a, b], regression: true}}": "task: mine needs exactly one of labels and regression: true",
    f"{MINE}text: a, labels: [no, no]}}": 'task.labels: ["no", "no"], must be given once each, no is repeated',
    f"{MINE}text: a, labels: [a, b, c], metric: f1}}": "task.metric: f1 needs 2 labels, the task has 3; use macro_f1",
    f"{MINE}text: a, regression: true, metric: f1}}": "task.metric: f1 does not fit a regression",
    f"{MINE}text: [a, b, c], labels: [a, b]}}": 'task.text: ["a", "b", "c"], takes at most 2',
    "task={name: mine, files: {test: a}, text: a, labels: [a, b]}": "task.files.train: missing, and needed",
    "task={name: sst2, files: {train: a, tset: b}}": "task.files.tset: is no split; ",
    "task={name: mine, text: a, labels: [a, b]}": "data.source: hub has no mine, a task of your own; ",
    "task={name: mine, hub: a/b, text: a}": "task: mine needs exactly one of labels and regression: true",
    "task={name: mine, hub: a/b, labels: [a, b]}": "task.text: missing, and needed",
    "task={name: rte, hub: a/b, files: {train: a}}": "task.hub: a/b, but files are given beside it; leave one of them",
    "task={name: rte, config: a}": "task.config: a is that of a data set on the hub; add hub, or leave it out",
    "task={name: rte, hub: {repository: a/b, config: c}, config: d}": "task.config: d, but hub.config is given beside",
    "task={name: rte, hub: {repository: a/b, splits: {test: test}}}": "task.hub.splits.train: missing, and needed",
    "task={name: rte, hub: {repository: a/b, splits: {train: a, dev: b}}}": "task.hub.splits.dev: is no split; ",
    "task={name: rte, hub: {repository: a/b, splits: {train: a, test: a}}}": "task.hub.splits: a is given for two spl",
    "task={name: rte, hub: {config: a}}": "task.hub.repository: missing, and needed",
    "task=imp": "data.source: hub has no data set for imp; ",
    "data.source=generated": "data.source: generated makes the task reviews only; ",
    "data.holdout=0": "data.holdout: 0, but train.select: holdout picks the best epoch on what is held out; hold some "
    "out, or select: dev or last",
    f"{MINE}text: a, labels: [a, b], metric: macro_f1, select: f1}}": "task.select: f1, must be one of the metrics of "
    "mine: macro_f1",
    "task={name: mrpc, select: matthews}": "task.select: matthews, must be one of the metrics of mrpc: f1, accuracy",
    # teacher and store
    "teacher.labels=[negative, positive]": "teacher.labels: is for a model that is fine-tuned already; ",
    "teacher={model: x, labels: [a, b]}": 'teacher.labels: ["a", "b"], must be the labels of sst2 in the order',
    "store.layers=[1, 1]": "store.layers: [1, 1], must be given once each, 1 is repeated",
    "store.layers=[-1]": "store.layers.0: -1, must be at least 0",
    "store.layers=none": "store.layers: none, must be all or a list",
    # students
    "student={label: a}": "student: needs exactly one of model, cut, config, bilstm and network; none of them",
    "student.cut={layers: [1]}": "student: needs exactly one of model, cut, config, bilstm and network; model and ",
    "student={cut: {layers: [1]}, bilstm: {}}": "student: needs exactly one of model, cut, config, bilstm and network",
    "student={bilstm: {hidden: 0}}": "student.bilstm.hidden: 0, must be at least 1",
    "student={bilstm: {layers: 9}}": "student.bilstm.layers: 9, must be at most 8",
    "student={bilstm: {fc: 20000}}": "student.bilstm.fc: 20000, must be at most 16384",
    "student={bilstm: {width: 5000}}": "student.bilstm.width: 5000, must be at most 4096",
    "student={bilstm: {dropout: 1.0}}": "student.bilstm.dropout: 1.0, must be below 1",
    "student={bilstm: {embeddings: glove}}": "student.bilstm.embeddings: glove, must be teacher, base or random",
    "student={bilstm: {hiden: 5}}": "student.bilstm.hiden: unknown key; did you mean hidden?",
    "student={bilstm: {}, head: mean}": "student.head: mean, but a bilstm has no such head: it reads the last states ",
    "student={cut: {of: teacher, layers: [1, 3, 1]}}": "student.cut.layers: [1, 3, 1], must be given once each, 1 is ",
    "student={cut: {layers: [1, -1]}}": "student.cut.layers.1: -1, must be at least 1",
    "student={cut: {layers: []}}": "student.cut.layers: [], needs at least 1",
    "student={cut: {layers: [0, 2]}}": "student.cut.layers: [0, 2], must not name 0, the embeddings, which are always "
    "kept; the first layer is 1",
    "student={cut: {layers: [6, 3]}}": "student.cut.layers: [6, 3], must rise, because a layer keeps its place among "
    "the others; write [3, 6]",
    "student={cut: {of: assistant, layers: [3]}}": "student.cut.of: assistant, must be teacher, base or an "
    "entry of models with pretrain",
    "student={from_teacher: [2, 5]}": "student.from_teacher: unknown key; write cut: {of: teacher, layers: [3, 6]}, "
    "where 1 is the first layer",
    "student={from_teacher: all}": "student.from_teacher: unknown key; write cut: {of: teacher, layers: [...]}, where",
    "student={config: {hidden_size: 8}}": "student.config.model: missing, and needed",
    "student=[{model: x/a}, {model: y/a}]": "student.1.label: a is the label of student.0 too; ",
    "student.start=sst2": "student.start: sst2 is no other task of this recipe",
    # methods
    "method=vanila-kd": "method: vanila-kd is no method; did you mean vanilla-kd?",
    "method=[no-kd, {use: vanila-kd}]": "method.1.use: vanila-kd is no method; did you mean vanilla-kd?",
    "method={label: x}": "method.use: missing, and needed",
    "method=[no-kd, no-kd]": "method.1: no-kd is the label of method.0 too; ",
    "method=[no-kd, {use: vanilla-kd, label: no-kd}]": "method.1.label: no-kd is the label of method.0 too; ",
    "method={use: no-kd, label: teacher}": "method.label: teacher is what reports call the teacher itself",
    "method={use: no-kd, taught_by: teacher}": "method.taught_by: teacher, but this method needs no teacher",
    "method={use: vanilla-kd, taught_by: assistant}": "method.taught_by: assistant is no model of this recipe; ",
    "method={use: vanilla-kd, structure: alp}": "method.structure: alp is no kind of structure; known: ",
    "method={use: vanilla-kd, structure: [pick, relational]}": (
        'method.structure: ["pick", "relational"], must be one, not a list: a method has one kind of structure; write '
    ),
    "method={use: vanilla-kd, data: {kind: nn}}": "method.data.kind: nn is no kind of data; ",
    "method={use: vanilla-kd, data: {kind: [knn]}}": 'method.data.kind: ["knn"] is no kind of data; ',
    "method=knn": "method: knn needs candidates; give bank: {files: [...]}",
    "method={use: no-kd, data: knn}": "method.data: candidates have no label and follow a teacher's logits",
    "method={use: minimax-knn, data: {keep: 8}}": "method.data.keep: 8 of k: 8 leaves none out; keep fewer",
    "method={use: no-kd, targets: {calibrated: true}}": "method.targets.calibrated: unknown key of hard; ",
    "method={use: vanilla-kd, targets: {calibrated: 2}}": "method.targets.calibrated: 2, must be true or false",
    "method={use: knn, data: {draw: 8}}": "method.data.draw: 8 of k: 8 draws them all; draw fewer, or leave draw out",
    "method={use: knn, data: {draw: 0}}": "method.data.draw: 0, must be at least 1",
    "method={use: minimax-knn, data: {draw: 2}}": "method.data.draw: unknown key of minimax-knn; ",
    "method={use: minimax-knn, data: {every: 0}}": "method.data.every: 0, must be",
    "method={use: vanilla-kd, candidates: neighbours}": "method.candidates: neighbours, but data: original uses none; ",
    "bank={text: t}": "bank: needs exactly one of files, hub, generated; none of them is given",
    "bank={files: [x], hub: y}": "bank: needs exactly one of files, hub, generated; files and hub are given",
    "bank={files: [x], encoder: tfidf, pooling: cls}": "bank.pooling: tfidf has no such setting; leave it out",
    "bank={files: [x], min_words: 9, max_words: 8}": "bank.min_words: 9, but max_words is 8; let it be no more",
    "bank={files: [x], k: 8}": "bank.k: unknown key; it belongs to candidates.NAME, or to a method's data",
    "bank={files: [x], index: {bytes: 5 apples}}": "bank.index.bytes: 5 apples, must be a size above 0",
    "candidates={a: neighbours}": "candidates.a: neighbours come from a bank; give bank: {files: [...]}",
    "candidates={a: words}": "candidates.a: words needs exactly one of model and synonyms",
    "candidates={a: {by: masked}}": "candidates.a.model: missing, and needed by masked",
    "candidates={a: {by: tinybert}}": "candidates.a.model: missing, and needed by tinybert",
    "candidates={a: {by: masked, model: m, vectors: v}}": "candidates.a.vectors: is no key of masked; leave it out",
    "candidates={a: {by: masked, model: m, there: x}}": "candidates.a.there: is no key of masked; leave it out",
    "candidates={a: {by: masked, model: m, found: 9}}": "candidates.a.found: 9, needs rerank, confidence or balance",
    "candidates={a: {by: masked, model: m, sides: both}}": "candidates.a.sides: both, but ",
    "candidates={a: {by: masked, model: m, confidence: [1.0, 0.5]}}": "candidates.a.confidence: [1.0, 0.5], must rise",
    "method={use: annealing-kd, training: {temperature: 3}}": "method.training.temperature: unknown key of annealing; ",
    "method={use: vanilla-kd, training: {temperature: 0}}": "method.training.temperature: 0, must be above 0",
    "method={use: vanilla-kd, training: {temperature: '3'}}": 'method.training.temperature: "3", must be a number',
    "method={use: annealing-kd, targets: hard}": "method.training: annealing follows a teacher's logits",
    "method={use: no-kd, training: annealing}": "method.training: annealing follows a teacher's logits",
    "method={use: no-kd, training: {temperature: 3}}": "method.training: temperature and teacher_weight have no effect",
    "method=label-smoothing": "method: label smoothing cannot be defined for stsb, a regression; ",
    "method=[no-kd, {use: no-kd, label: ls, targets: smoothed}]": "method.1: label smoothing cannot be defined ",
    "method={use: label-smoothing, targets: {distribution: [1.0]}}": "method.targets.distribution: [1.0], must be 2 ",
    "method=[no-kd, {use: vanilla-kd, train: {epochs: 9}}]": "method.1.train: 9 epochs of batches of 32, but no-kd ",
    "method=[{use: vanilla-kd, train: {batch_size: 8}}, no-kd]": "method.0.train: 4 epochs of batches of 8, ",
    # models
    "models.a={model: x}": "models.a.method: missing, and needed",
    "models.a={model: x, method: vanila-kd}": "models.a.method: vanila-kd is no method; ",
    "models.a={method: no-kd}": "models.a: needs exactly one of model, cut, config, bilstm, network, start and ",
    "models.a={bilstm: {hidden: 8}, pretrain: {texts: task}}": "models.a.bilstm: predicts no masked tokens; leave out ",
    "models.a={model: x, method: vanilla-kd, taught_by: a}": "models.a.taught_by: a runs in a circle (a <- a)",
    "models={a: {model: x, method: vanilla-kd, taught_by: b}, b: {model: x, method: vanilla-kd, taught_by: a}}": (
        "models.a.taught_by: b runs in a circle (a <- b <- a)"
    ),
    "models.teacher={model: x, method: no-kd}": "models.teacher: is the name of the teacher itself",
    "models.a={model: x, method: annealing-kd, train: {epochs: 1}}": "models.a: annealing has two phases and needs",
    # masked language models
    "models.a={model: x, pretrain: bank}": "models.a.pretrain: bank, but the recipe has no bank; give bank: ",
    "models.a={model: x, pretrain: {}}": "models.a.pretrain.texts: missing, and needed",
    "models.a={model: x, pretrain: corpus}": "models.a.pretrain: corpus, must be bank or task",
    "models.a={model: x, pretrain: {texts: task, epoch: 3}}": "models.a.pretrain.epoch: unknown key; did you mean ",
    "models.a={model: x, pretrain: {texts: task, learning_rate: 3}}": (
        "models.a.pretrain.learning_rate: 3, must be at most 1"
    ),
    "models.a={model: x, pretrain: {texts: task, share: 0}}": "models.a.pretrain.share: 0, must be above 0",
    "models.a={model: x, pretrain: {texts: task, share: 1}}": "models.a.pretrain.share: 1, must be below 1",
    "models.a={model: x, pretrain: {texts: task, holdout: 0.5}}": "models.a.pretrain.holdout: 0.5, must be below 0.5",
    "models.a={model: x, pretrain: {texts: task, masked: 1.5}}": "models.a.pretrain.masked: 1.5, must be at most 1",
    "models.a={model: x, pretrain: {texts: task, random: 0.3}}": (
        "models.a.pretrain.masked: 0.8, but random is 0.3; their sum is at most 1"
    ),
    "models.a={model: x, pretrain: task, train: {epochs: 9}}": "models.a.train: is of a model that is trained by a ",
    "models.a={model: x, pretrain: task, head: mean}": "models.a.head: is of a model that is trained by a method; ",
    "models.a={members: [teacher, b], pretrain: task}": "models.a.pretrain: an ensemble is not trained; ",
    "models.teacher={model: x, pretrain: task}": "models.teacher: is the name of the teacher itself",
    "models.a={start: b, pretrain: task}": "models.a.start: b is no model with pretrain of this recipe, there are none",
    "models.a={start: a, pretrain: task}": "models.a.start: a runs in a circle (a <- a); let one of them start from a ",
    "models={a: {start: b, pretrain: task}, b: {start: a, pretrain: task}}": (
        "models.a.start: b runs in a circle (a <- b <- a)"
    ),
    "models={a: {start: b, pretrain: task}, b: {model: x, method: no-kd}}": (
        "models.a.start: b, but models.b has no pretrain, and so no masked language model to start from; give it one"
    ),
    "models={a: {model: x, pretrain: task}, b: {model: y, method: vanilla-kd, taught_by: a}}": (
        "models.b.taught_by: a is a masked language model, which has no outputs for a task; give it a method, or "
    ),
    "models.a={model: x, pretrain: {texts: task, distillation: {}}}": (
        "models.a.pretrain.distillation: has no effect without taught_by; give it, or leave this out"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: y, distillation: {soft: 0}}}": (
        "models.a.pretrain.distillation.soft: 0, must be above 0"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: teacher}}": (
        "models.a.pretrain.taught_by: teacher is a classifier, which predicts no masked tokens; write base, or an "
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: a}}": (
        "models.a.pretrain.taught_by: a runs in a circle (a <- a); let one of them start from a model"
    ),
    "models={a: {cut: {of: b, layers: [1]}, pretrain: task}, b: {model: x, pretrain: {texts: task, taught_by: a}}}": (
        "models.a.cut.of: b runs in a circle (a <- b <- a); let one of them start from a model"
    ),
    "models={a: {model: x, pretrain: {texts: task, taught_by: b}}, b: {model: x, method: no-kd}}": (
        "models.a.pretrain.taught_by: b, but models.b has no pretrain, and so no masked language model that could teach"
    ),
    # general distillation
    "models.a={model: x, pretrain: {texts: task, states: pick}}": (
        "models.a.pretrain.taught_by: missing, and needed with states; name base, an entry of models with pretrain, or"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: pick, share: 0.3}}": (
        "models.a.pretrain.share: is of masked language models, and no token is masked beside states; leave one of the"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: pick, distillation: {soft: 1}}}": (
        "models.a.pretrain.distillation: is of masked language models, and no token is masked beside states"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: tokens}}": (
        "models.a.pretrain.states: tokens is no kind of states; known: attend, concatenate, pick, random, relation"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: none}}": (
        "models.a.pretrain.states: none is no kind of states; known: attend, concatenate, pick, random, relational"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: {groups: all}}}": (
        "models.a.pretrain.states.groups: unknown key of pick; "
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: {weight: auto}}}": (
        "models.a.pretrain.states.weight: auto, but that is measured against the labels' loss, and texts have no labels"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: base, states: [pick]}}": ("models.a.pretrain.states: "),
    "models.a={model: x, pretrain: {texts: task, taught_by: itself, states: pick}}": (
        "models.a.pretrain.taught_by: itself is the student of a method; name base, an entry of models, or a model"
    ),
    "models={a: {model: x, pretrain: {texts: task, taught_by: b, states: pick}}, b: {model: x, method: no-kd}}": (
        "models.a.pretrain.taught_by: b, but models.b has no pretrain: it is trained for a task; name base, teacher or"
    ),
    "models.a={model: x, pretrain: {texts: task, taught_by: a, states: pick}}": (
        "models.a.pretrain.taught_by: a runs in a circle (a <- a); let one of them start from a model"
    ),
    "models.a={bilstm: {}, pretrain: {texts: task, taught_by: base, states: pick}}": (
        "models.a.bilstm: has no layers that could follow others; leave out pretrain, or give another model"
    ),
    "models={a: {model: x, pretrain: {texts: task, taught_by: base, states: pick}}, b: {model: x, pretrain: {texts: "
    "task, taught_by: a}}}": (
        "models.b.pretrain.taught_by: a, but models.a follows states, and has no head that predicts tokens; give states"
    ),
    "models={a: {model: x, method: mate-kd, generator: b}, b: {model: x, pretrain: {texts: task, taught_by: base, "
    "states: pick}}}": (
        "models.a.generator: the generator is models.b, which follows states, and so has no head that predicts tokens"
    ),
    "models={a: {model: x, pretrain: {texts: task, taught_by: base, states: pick}}, b: {members: [teacher, a]}}": (
        "models.b.members.1: a follows states, which has no outputs for a task; give it a method, or name another"
    ),
    "models={a: {cut: {of: b, layers: [1]}, pretrain: task}, b: {model: x, method: no-kd}}": (
        "models.a.cut.of: b, must be teacher, base or an entry of models with pretrain"
    ),
    "models.base={model: x, pretrain: task}": "models.base: is what cut.of and taught_by call the teacher's model ",
    "models={a: {model: x, pretrain: task}, b: {members: [teacher, a]}}": (
        "models.b.members.1: a is a masked language model, which has no outputs for a task; "
    ),
    # who teaches
    "train.keep=epochs": "train.keep: unknown key; students keep their best epoch; it is for teacher.finetune and ",
    "method={use: no-kd, train: {keep: epochs}}": "method.train.keep: unknown key; students keep their best epoch",
    "teacher.finetune.keep=all": "teacher.finetune.keep: all, must be best or epochs",
    "method={use: vanilla-kd, taught_by: []}": "method.taught_by: [], needs at least 1",
    "method={use: vanilla-kd, taught_by: 'teacher:0'}": "method.taught_by: teacher:0, must be teacher, itself or a ",
    "method={use: vanilla-kd, taught_by: [teacher, x y]}": "method.taught_by.1: x y, must be teacher, itself or a name",
    "method={use: vanilla-kd, taught_by: [teacher, techer]}": "method.taught_by.1: techer is no model of this recipe; ",
    "method={use: vanilla-kd, taught_by: [teacher, teacher]}": (
        'method.taught_by: ["teacher", "teacher"], must be given once each, teacher is repeated'
    ),
    "method={use: no-kd, taught_by: itself}": "method.taught_by: itself, but this method needs no teacher; leave it ",
    "method={use: vanilla-kd, taught_by: 'itself:2'}": "method.taught_by: itself:2, but students keep only their ",
    "method={use: vanilla-kd, taught_by: 'teacher:2'}": "method.taught_by: teacher:2, needs teacher.finetune.keep: ",
    "models.a={model: x, method: vanilla-kd, taught_by: itself}": "models.a.taught_by: itself, but only a student's ",
    "models.a={members: [teacher, itself]}": "models.a.members.1: itself, but only a student's method has a first ",
    "models.itself={model: x, method: no-kd}": "models.itself: is what taught_by calls the student itself",
    "models.a={members: teacher}": 'models.a.members: ["teacher"], needs at least 2 models',
    "models.a={members: [teacher, b]}": "models.a.members.1: b is no model of this recipe; ",
    "models.a={members: [teacher, a]}": "models.a.members: a runs in a circle (a <- a); ",
    "models.a={model: x, members: [teacher]}": (
        "models.a: needs exactly one of model, cut, config, bilstm, network, start and members; model and members "
    ),
    "models.a={members: [teacher, b], method: no-kd}": "models.a.method: an ensemble is not trained; ",
    "models.a={members: [teacher, b], taught_by: b}": "models.a.taught_by: an ensemble is not trained; ",
    "models.a={members: [teacher, b], train: {}}": "models.a.train: an ensemble is not trained; ",
    "models.a={model: x, method: no-kd, shares: [1.0]}": "models.a.shares: is of an ensemble's members; ",
    # what makes no sense together
    "method={use: no-kd, targets: virtual}": "method: a virtual teacher cannot be defined for stsb, a regression; ",
    "method={use: label-smoothing, training: {reduction: mean}}": "method.training: temperature and teacher_weight ",
    "method={use: vanilla-kd, training: progressive}": "method.training: progressive follows several teachers in turn",
    "method={use: vanilla-kd, targets: {shares: [0.5, 0.5]}}": "method.targets: shares has 2 for 1 teachers; ",
    "method={use: vanilla-kd, targets: {shares: [0.5]}}": "method.targets: shares [0.5] sum to 0.5; let them sum to 1",
    # overrides
    "overrides.mrpc.train.epochs=3": "overrides.mrpc: mrpc is no task of this recipe; known: sst2, stsb",
    "overrides.stsb.train.epochs=0": "overrides.stsb.train.epochs: 0, must be at least 1",
    "overrides.stsb.train.epoch=1": "overrides.stsb.train.epoch: unknown key; did you mean epochs?",
    "overrides.stsb.storage=x": "overrides.stsb.storage: unknown key; did you mean store?",
    "overrides.stsb.student.labl=x": "overrides.stsb.student.labl: unknown key; did you mean label?",
    "overrides.stsb.student={model: null}": "overrides.stsb.student: needs exactly one of",
    "overrides.stsb.student=[{label: x}]": "overrides.stsb.student.0: needs exactly one of",
    "overrides.stsb.method=[no-kd, vanila]": "overrides.stsb.method.1: vanila is no method; did you mean vanilla-kd?",
    "overrides.stsb.method={use: no-kd, train: {epochs: 0}}": "overrides.stsb.method.train.epochs: 0, must ",
    "overrides.stsb.models.a={model: x}": "overrides.stsb.models.a.method: missing, and needed",
    "overrides.stsb.seeds=[1, 1]": "overrides.stsb.seeds: [1, 1], must be given once each",
    "overrides.stsb.student.start=rte": "overrides.stsb.student.start: rte is no other task of this recipe; ",
    # --set
    "epochs": "--set epochs: must be KEY=VALUE",
    "a..b=3": "--set a..b=3: must be KEY=VALUE",
    "train.epochs=": "--set train.epochs=: has no value; null takes the key out",
    "train.epochs=[": "--set train.epochs:1: not YAML: ",
    "task.2=rte": "--set task.2=rte: 2 names no place in a list of 2, counted from 0",
    "method.0.label=x": "--set method.0.label=x: no-kd is no block, so it has no label; ",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_a_wrong_recipe_is_refused_in_one_line(change: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / "two.yaml", change).startswith(REFUSALS[change])


@pytest.mark.parametrize(
    ("student", "line"),
    [
        ("{start: a, model: x}", "student.start: a is a model of this recipe, which stands in the place of model; "),
        ("{start: assistant}", "student.start: assistant, but models.assistant has no pretrain, and so no masked "),
        ("{start: b}", "student.start: b is no model with pretrain of this recipe; known: a, sst2"),
        ("{start: sst2}", "student.start: sst2 is the name of a task and of a model; give the model another name"),
        ("{start: stsb}", "student: needs exactly one of model, cut, config, bilstm and network; none of them "),
    ],
)
def test_a_student_starts_from_a_masked_language_model_in_the_place_of_another(
    student: str, line: str, tmp_path: Path
) -> None:
    masked = "{model: x, pretrain: task}"
    models = f"models={{a: {masked}, sst2: {masked}, assistant: {{model: x, method: no-kd}}}}"
    assert refusal(tmp_path / "two.yaml", models, f"student={student}").startswith(line)


def test_a_calibrated_teacher_needs_held_out_rows_unless_the_task_is_a_regression() -> None:
    def recipe(task: str) -> dict[str, Any]:
        method = {"use": "vanilla-kd", "targets": {"calibrated": True}}
        base = {"name": "x", "task": task, "teacher": {"model": "b"}, "student": {"model": "l"}, "method": method}
        return {**base, "train": {"select": "dev"}, "data": {"holdout": 0}}

    line = (
        "method.targets.calibrated: true, but data.holdout is 0, and the temperature is found on what is held out; "
        "hold some out"
    )
    with pytest.raises(RequestError, match=f"^{re.escape(line)}$"):
        parse(recipe("sst2"))
    assert parse(recipe("stsb")).tasks


def with_starts(**starts: str) -> dict[str, Any]:
    overrides = {task: {"student": {"start": source}} for task, source in starts.items()}
    base = {"name": "x", "task": ["rte", "mrpc", "mnli"], "teacher": {"model": "b"}, "student": {"model": "l"}}
    return {**base, "method": ["no-kd", "vanilla-kd"], "overrides": overrides}


def test_a_task_may_start_where_another_ends() -> None:
    assert len(parse(with_starts(rte="mrpc", mrpc="mnli")).tasks) == 3


def test_tasks_that_start_from_each_other_are_refused() -> None:
    with pytest.raises(
        RequestError, match=r"^overrides.rte.student.start: mrpc runs in a circle \(rte <- mrpc <- rte\)"
    ):
        parse(with_starts(rte="mrpc", mrpc="rte"))


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ("overrides.mnli.method=no-kd", "method vanilla-kd"),
        ("overrides.mnli.student.label=other", "student l"),
        ("overrides.mnli.seeds=[1]", "seed 0"),
    ],
)
def test_a_start_that_the_other_task_does_not_train_is_refused(change: str, lacking: str) -> None:
    with pytest.raises(
        RequestError, match=f"^overrides.rte.student.start: mnli has no {lacking}, from which rte would"
    ):
        parse(with_starts(rte="mnli"), [change])


def test_the_line_begins_with_the_path_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(TWO.replace("name", "nam"), "utf-8")
    with pytest.raises(RequestError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: nam: unknown key; did you mean name?"


@pytest.mark.parametrize("document", [None, [], "sst2", 3, {"name": {1, 2}}, {"name": float("nan")}])
def test_what_is_no_recipe_at_all_is_refused(document: object) -> None:
    with pytest.raises(RequestError, match=r"^recipe: "):
        parse(document)


def test_a_long_value_is_cut_and_a_strange_one_escaped() -> None:
    with pytest.raises(RequestError) as caught:
        parse({"name": "x\ny" * 100})
    assert str(caught.value).startswith('name: "x\\nyx') and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "sets", [['"a\nb"=3'], ["a\nb"], ["task=[\nsst2"], ["name={'a\nb': 1}"], ['train={"a\\nb": 1}']]
)
def test_a_line_break_in_the_recipe_does_not_break_the_line(sets: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        parse({"name": "x", "task": "sst2"}, sets)
    assert "\n" not in str(caught.value)


# --- who teaches ------------------------------------------------------------------------------------

KEEPING: dict[str, Any] = {
    "name": "keeping",
    "task": "sst2",
    "teacher": {"model": "big", "finetune": {"epochs": 3, "keep": "epochs"}},
    "student": {"label": "six", "model": "little"},
    "method": "vanilla-kd",
    "models": {
        "one": {"model": "m", "method": "vanilla-kd", "train": {"epochs": 2, "keep": "epochs"}},
        "two": {"model": "m", "method": "vanilla-kd", "taught_by": "one"},
        "both": {"members": ["one", "two"], "shares": [0.7, 0.3]},
    },
}

KD = "use: vanilla-kd, "

TEACHING = {
    f"method={{{KD}taught_by: 'teacher:4'}}": (
        "method.taught_by: teacher:4, but teacher.finetune.epochs is 3; name an epoch from 1 to 3"
    ),
    f"method={{{KD}taught_by: 'one:3'}}": "method.taught_by: one:3, but models.one.train.epochs is 2; name an epoch ",
    f"method={{{KD}taught_by: 'two:1'}}": "method.taught_by: two:1, needs models.two.train.keep: epochs, which keeps ",
    f"method={{{KD}taught_by: 'two:all'}}": "method.taught_by: two:all, needs models.two.train.keep: epochs, which ",
    f"method={{{KD}taught_by: 'both:1'}}": "method.taught_by: both:1, but both is an ensemble and has no epochs; ",
    f"method={{{KD}taught_by: ['teacher:all', 'teacher:2']}}": (
        "method.taught_by: teacher:2 is named twice; name each model once"
    ),
    f"method={{{KD}taught_by: [teacher, both]}}": "method.taught_by.1: both is an ensemble, which cannot be one of ",
    f"method={{{KD}taught_by: both, targets: {{shares: [0.5, 0.5]}}}}": (
        "method.targets.shares: [0.5, 0.5], but both is an ensemble, whose shares are its own; give models.both.shares"
    ),
    f"method={{{KD}taught_by: both, training: progressive}}": "method.taught_by: both is an ensemble, and progressive ",
    f"method={{{KD}taught_by: [one, two], structure: pick}}": "method.structure: the layers of which of 2 teachers? ",
    f"method={{{KD}taught_by: both, structure: outputs}}": "method.structure: ",
    "method={use: no-kd, structure: pick, taught_by: [one, two]}": "method.taught_by: 2 teachers, but only their ",
    f"method={{{KD}taught_by: [one, two], targets: {{shares: [1.0]}}}}": "method.targets: shares has 1 for 2 teachers",
    f"method={{{KD}training: progressive, taught_by: 'teacher:all', train: {{epochs: 1}}}}": (
        "method: progressive has two phases and needs at least 2 epochs; it has 1"
    ),
    f"method={{{KD}training: progressive, taught_by: 'teacher:all', train: {{epochs: 3}}}}": (
        "method.taught_by: 3 teachers are followed in turn, an epoch each at least, and the first phase has 2; "
    ),
    f"method={{{KD}structure: relational, train: {{micro_batch: 8}}}}": (
        "method.train.micro_batch: 8, but vanilla-kd compares all rows of a batch; leave it out"
    ),
    "method=takd": "method: needs a teacher: a model in models, between teacher and student; ",
    "method=[no-kd, {use: takd, taught_by: teacher}]": "method.1.taught_by: teacher, but takd is taught by a model in ",
    "method={use: defective-kd, taught_by: teacher}": "method.taught_by: teacher, but defective-kd is taught by an ",
    "method={use: self-kd, taught_by: [itself, one]}": "method.taught_by: itself, one, but self-kd is taught by the ",
    "method={use: pkd, taught_by: both}": "method.taught_by: both, but pkd is taught by one model; name one model",
    f"models.three={{model: m, taught_by: teacher, method: {{{KD}targets: {{shares: [0.5, 0.5]}}}}}}": (
        "models.three.method.targets: shares has 2 for 1 teachers; "
    ),
    f"models.three={{model: m, taught_by: both, method: {{{KD}targets: {{shares: [0.5, 0.5]}}}}}}": (
        "models.three.method.targets.shares: [0.5, 0.5], but both is an ensemble, whose shares are its own; "
    ),
    "models.three={model: m, method: {use: label-smoothing, targets: {distribution: [1.0]}}}": (
        "models.three.method.targets.distribution: [1.0], must be 2 shares that sum to 1, one for each label of sst2"
    ),
    "models.three={model: m, method: self-kd}": "models.three.taught_by: itself, but only a student's method has a ",
    "models.both.shares=[0.5, 0.4]": "models.both.shares: [0.5, 0.4], must be 2 shares that sum to 1, one for each of ",
    "models.both.shares=[1.0]": "models.both.shares: [1.0], must be 2 shares that sum to 1, one for each of one, two",
    "models.both.shares=[1.5, -0.5]": "models.both.shares.1: -0.5, must be at least 0",
    "models.more={members: [teacher, both]}": "models.more.members.1: both is an ensemble itself, and ensembles ",
    "models.both={members: ['one:all', 'one:1']}": "models.both.members: one:1 is named twice; name each model once",
    "models.one.taught_by=both": "models.one.taught_by: both runs in a circle (one <- both <- one); let one of them ",
    "teacher.finetune=null": "models.late.taught_by: teacher:1, but the teacher is fine-tuned already, and its epochs ",
}


@pytest.mark.parametrize("change", TEACHING)
def test_a_teacher_that_makes_no_sense_is_refused_in_one_line(change: str) -> None:
    late = ["models.late={model: m, method: vanilla-kd, taught_by: 'teacher:1'}"] if "null" in change else []
    with pytest.raises(RequestError) as caught:
        parse(KEEPING, [change, *late])
    assert str(caught.value).startswith(TEACHING[change])


def test_a_micro_batch_of_the_whole_recipe_is_refused_where_it_stands() -> None:
    with pytest.raises(
        RequestError, match=r"^train\.micro_batch: 4, but rkd compares all rows of a batch; leave it out$"
    ):
        parse(KEEPING, ["train.micro_batch=4", "method={use: vanilla-kd, label: rkd, structure: relational}"])


NO_CANDIDATE_EPOCH = {
    "method={use: minimax-knn, data: {warmup_epochs: 9}}": "method.data.warmup_epochs: 9, but of 4 epochs none",
    "method={use: knn, training: {teacher_weight: 0}}": "method.data: knn, but of 4 epochs none trains on candidates",
    "method={use: continuation-kd, data: {kind: knn, warmup_epochs: 3}}": "method.data.warmup_epochs: 3, but of 4 ",
    "models.a={model: m, method: {use: knn, data: {warmup_epochs: 4}}}": "models.a.method.data.warmup_epochs: 4, ",
}


@pytest.mark.parametrize("change", NO_CANDIDATE_EPOCH)
def test_candidates_that_no_epoch_would_use_are_refused(change: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / "two.yaml", "bank={generated: {}}", change).startswith(NO_CANDIDATE_EPOCH[change])
