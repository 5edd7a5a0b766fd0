"""The block of a recipe that describes a task, and where the hub has its rows."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.recipe.frozen import FrozenMapping
from pipeline.recipe.schema.scalars import (
    ONE_OR_MANY,
    Block,
    Flag,
    Name,
    Text,
    Word,
    distinct,
    key,
)
from stages.specs.tasks import Metric, TagScheme


class HubTask(Block):
    """A data set on the hub that holds the rows of a task. Its columns have the names that the task gives them. Code in
    its repository is never run: a data set that is made by a script may still have Parquet files, under the revision
    `refs/convert/parquet`."""

    short = "repository"
    repository: Text = key("The name of the data set.", "cornell-movie-review-data/rotten_tomatoes")
    config: Text | None = key("The configuration of the data set, if it has several.", "plain_text", None)
    revision: Text = key(
        "A branch or a tag. The storage keeps the commit that it meant when it was first used; `--refresh` looks it up "
        "again.",
        "refs/convert/parquet",
        "main",
    )
    splits: FrozenMapping[Text] | None = key(
        "Split -> the data set's name for it, for the splits that `files` may have. Without a validation split here, a "
        "tenth of train becomes one. Default: `train` and `validation`, and `test` if there is one; for a built-in "
        "task its own.",
        {"train": "train", "validation": "dev"},
        None,
    )


class TaskBlock(Block):
    """A task. With only `name`, or `name`, `kind` and one of `files` and `hub`, it is the built-in one of that name;
    else it is a task of your own, which needs `text` and exactly one of `labels`, `regression: true` and `kind:
    embedding`; or `image` and `labels`. `kind: tokens` needs `labels`, too."""

    short = "name"
    name: Name = key("The task's name in reports, in `overrides` and in a data folder.", "mine")
    kind: Literal["embedding", "tokens"] | None = key(
        "`embedding`: teacher and students are [sentence encoders](#sentence-embeddings). Students follow the "
        "teacher's embeddings of the bank's texts, without labels. The rows of the task are pairs with a number as "
        "label; of dev and test the cosines of their embeddings are compared with it. `tokens`: each word of "
        "a sentence has a label, as [entities](#labels-on-words) have. Default: rows have labels.",
        "embedding",
        None,
    )
    scheme: TagScheme | None = key(
        "How the tags of the kind `tokens` are written: `iob2`, where each entity begins with `B-`; `iob1`, as in "
        "CoNLL's own files, where one begins with `B-` only right after another of its type; or `repair`, which takes "
        "both, and any `I-` that continues no entity for the beginning of one. Default: `iob2`.",
        "iob1",
        None,
    )
    files: FrozenMapping[Text] | None = key(
        "Split -> file, of the kinds that `data.source` lists, on this machine or in a bucket. `train` is required. "
        "`validation` and `test` are optional, and so are further splits whose names begin with `validation_` or "
        "`test_`. Without a validation split, a tenth of train becomes one. Without `files` and `hub`, "
        "`data.source` must be a folder that holds this task.",
        {"train": "a.parquet", "validation": "b.parquet"},
        None,
    )
    hub: HubTask | None = key(
        "A data set on the hub with the rows of this task, in the place of `files` and `data.source`: its name, or a "
        "block.",
        "cornell-movie-review-data/rotten_tomatoes",
        None,
    )
    config: Text | None = key("The configuration of the data set, where `hub` is its name alone.", "plain_text", None)
    text: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2), ONE_OR_MANY] | None = key(
        "The column of text, or the two columns of a pair. Of the kind `tokens`, the column of lists of words.",
        ["question", "answer"],
        None,
    )
    image: Text | None = key(
        "The column of [images](#images) in Parquet files, in the place of `text`. Folders of images by class, and the "
        "files of CIFAR and Fashion-MNIST, have no columns; any name will do.",
        "image",
        None,
    )
    channels: Literal[1, 3] | None = key(
        "The channels of an image: 3, red, green and blue; or 1, grey. Default: 3.", 1, None
    )
    label: Text = key("The column of labels; of the kind `tokens`, of lists of tags.", "grade", "label")
    labels: Annotated[tuple[Word, ...], Field(min_length=2), AfterValidator(distinct)] | None = key(
        "The names of the labels, in the order of their numbers; the first is 0. `no` and `yes` need no quotes. A "
        "boolean is read as one of these two words (`false` as `no`, `true` as `yes`), so quote 'true' and 'false' if "
        "they are the labels. A whole number is read as its digits. Of the kind `tokens` the tags: `O`, and `B-` and "
        "`I-` of each type of entity.",
        ["no", "yes"],
        None,
    )
    regression: Flag = key("The label is a number; the task has no classes.", True, False)
    metric: Annotated[tuple[Metric, ...], ONE_OR_MANY, Field(min_length=1), AfterValidator(distinct)] | None = key(
        "One metric, or a list. The first leads the report, and selects the best epoch unless `select` names another. "
        "Default: `accuracy`, or `pearson` for a regression; of the kind `embedding` `pearson` and `spearman`, of "
        "`tokens` `entity_f1`, `entity_precision` and `entity_recall`.",
        ["f1", "accuracy"],
        None,
    )
    select: Metric | None = key(
        "The metric that selects the best epoch of each training: one of the task's metrics. It may be given for a "
        "built-in task, too, and changes trainings alone, no corpus. Default: the first of `metric`; for `mrpc` "
        "`accuracy`, as its F1 is high for a model that predicts the frequent label for every row.",
        "accuracy",
        None,
    )
