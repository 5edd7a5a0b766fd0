"""The block ``resources`` of a recipe file: what the workers of each stage take of a cluster."""

from pipeline.recipe.schema.scalars import Block, Custom, Gpus, Size, Whole, key


class ResourceBlock(Block):
    """Resources of one stage. They do not change any result. By default the runner chooses them."""

    workers: Whole | None = key("Number of worker processes. Each batch is divided among them.", 4, None, ge=1)
    cpus_per_worker: Whole | None = key("CPUs, and threads, of each worker.", 2, None, ge=1)
    gpus_per_worker: Gpus | None = key("GPUs of each worker; a fraction shares one GPU.", 1, None)
    memory_per_worker: Size | None = key("Memory that Ray reserves for each worker.", "8GB", None)
    trainings_per_worker: Whole = key(
        "How many models one worker process trains at the same time on its GPU, each in a thread of its own, where "
        "they are too small to keep a GPU busy. The CPUs, GPUs and memory of a worker are for all of them together. "
        "Only for `finetune` and `distil`, with one worker and a GPU. `--inline` trains one after another, and "
        "with `--gpu` as many as fit on the GPU by `gpus_per_worker`.",
        16,
        1,
        ge=1,
        le=64,
    )
    custom: Custom | None = key(
        "Amounts of further resources that each worker needs on its node, by the names that the cluster's nodes give "
        "them; also Ray's `accelerator_type:…`.",
        {"fast_disk": 1},
        None,
    )


class ResourcesBlock(Block):
    """Resources by stage. By default the runner chooses them."""

    corpus: ResourceBlock = key("Reading and tokenising rows.", {"workers": 2}, ResourceBlock)
    bank: ResourceBlock = key("Reading and cleaning the bank.", {"workers": 4}, ResourceBlock)
    embed: ResourceBlock = key("Embedding the bank.", {"workers": 8, "gpus_per_worker": 1}, ResourceBlock)
    index: ResourceBlock = key("Building its index.", {"cpus_per_worker": 8}, ResourceBlock)
    candidates: ResourceBlock = key("Making candidates.", {"workers": 4}, ResourceBlock)
    pretrain: ResourceBlock = key("Training masked language models.", {"gpus_per_worker": 1}, ResourceBlock)
    finetune: ResourceBlock = key("Training the teacher.", {"gpus_per_worker": 1}, ResourceBlock)
    teach: ResourceBlock = key(
        "Running teachers over train, and fitting linear classifiers on their layers.",
        {"workers": 4, "gpus_per_worker": 1},
        ResourceBlock,
    )
    distil: ResourceBlock = key(
        "Training students and further models.", {"workers": 4, "memory_per_worker": "8GB"}, ResourceBlock
    )
    evaluate: ResourceBlock = key("Evaluating models and ensembles.", {"cpus_per_worker": 4}, ResourceBlock)


STAGES = tuple(ResourcesBlock.model_fields)
"""The stages that ``resources`` may name."""
