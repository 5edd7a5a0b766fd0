"""Tables of transformers' architectures: which states a model's own classifier reads, where no field of a configuration
says so; which models give attention scores; and which read tokens alone and no embeddings. Planning reads them, so
nothing heavy is imported."""

from collections.abc import Mapping

READS_FIRST_TOKEN = (
    "albert",
    "bert",
    "big_bird",
    "camembert",
    "convbert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "esm",
    "esmc",
    "flaubert",
    "fnet",
    "gte",
    "ibert",
    "jina_embeddings_v3",
    "layoutlm",
    "layoutlmv3",
    "lilt",
    "longformer",
    "luke",
    "markuplm",
    "megatron-bert",
    "mobilebert",
    "mpnet",
    "mra",
    "nomic_bert",
    "nystromformer",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "squeezebert",
    "tapas",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
    "yoso",
)
"""Architectures whose classification head reads the state of the first token, with no field to choose another."""

READS_OTHER_STATES = (
    "arcee",
    "axk1",
    "axk2",
    "biogpt",
    "bloom",
    "canine",
    "cohere_compass_text",
    "ctrl",
    "deepseek_v2",
    "deepseek_v3",
    "diffllama",
    "doge",
    "exaone4",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt-sw3",
    "gpt2",
    "gpt_bigcode",
    "gpt_neo",
    "gpt_neox",
    "gpt_oss",
    "gptj",
    "helium",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
    "jamba",
    "jetmoe",
    "llama",
    "minicpm3",
    "minimax",
    "ministral",
    "ministral3",
    "mistral",
    "mistral4",
    "mixtral",
    "modernbert-decoder",
    "mpt",
    "nemotron",
    "olmo",
    "olmo2",
    "olmo3",
    "openai-gpt",
    "opt",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_5_text",
    "qwen3_moe",
    "qwen3_next",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
    "xlnet",
    "zamba",
    "zamba2",
)
"""Architectures with one state of the last layer for each token, whose classification head reads neither the first
token nor the mean: most read the last token, as decoders do."""

WITHOUT_TOKEN_STATES: Mapping[str, str] = {
    **dict.fromkeys(
        ("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "t5gemma", "t5gemma2", "umt5"),
        "reads the states of a decoder",
    ),
    **dict.fromkeys(
        ("gemma3", "modernvbert", "qwen3_5", "ultravbert"),
        "reads images beside texts, by a text model whose width is not a field of its own configuration",
    ),
    "funnel": "shortens the sequence of states from layer to layer",
    "layoutlmv2": "has states of image patches among those of the tokens",
    "perceiver": "has states of its latent array and not of the tokens",
    "reformer": "has states of two streams",
}
"""Architectures without one state of the last layer for each token, and what their classifier has instead."""


GIVES_SCORES = (
    "albert",
    "bert",
    "camembert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "flaubert",
    "layoutlm",
    "megatron-bert",
    "mobilebert",
    "mpnet",
    "rembert",
    "roberta",
    "roformer",
    "xlm",
    "xlm-roberta",
    "xlm-roberta-xl",
)
"""Architectures whose layers compute one attention score for each head and each pair of a row's tokens, with one
softmax over them. ModernBERT masks pairs of tokens that are far apart, Longformer and BigBird compute only some pairs,
and ConvBERT has convolutions beside its heads: they are left out."""

UNPADDED = ("bert", "camembert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta")
"""Architectures whose layers can run without padding (``stages.models.passes.unpadded``): each layer takes states
alone, and its attention is one of transformers' exchangeable functions. MPNet and DeBERTa have attention of their own,
and ModernBERT's layers take the angles of each position beside the states."""

LAST_TOKEN_BY_ID = tuple(name for name in READS_OTHER_STATES if name not in ("canine", "xlnet"))
"""Architectures whose own classification head reads the state of a row's last token, and finds it as the last id that
is not that of padding. Without ids, transformers takes the last position, which is padding in all rows but the longest.
XLNet's head reads the last position in any case."""

READS_TOKENS_ONLY: Mapping[str, str] = {
    **dict.fromkeys(
        ("bart", "bigbird_pegasus", "mbart", "mt5", "mvp", "plbart", "t5", "t5gemma", "t5gemma2", "umt5"),
        "its classifier finds the end of a text by its token",
    ),
    **dict.fromkeys(("gemma3", "qwen3_5"), "its classifier finds the last token of a row by its id"),
    **dict.fromkeys(("layoutlmv2", "modernvbert", "ultravbert"), "it reads images beside tokens"),
    "canine": "it reads characters, by several tables of hashes",
    "esm": "it adds no positions to embeddings that it is given",
    "esmc": "it looks up tokens in any case",
    "ibert": "its word embeddings are quantised together with a scale",
    "layoutlmv3": "it expands positions to the shape of the tokens",
    "perceiver": "it reads bytes",
}
"""Architectures whose models cannot take embeddings in the place of tokens, or give other outputs for them, and why."""


VISION_TRANSFORMERS = ("beit", "data2vec-vision", "deit", "dinov2", "vit", "vit_msn")
"""Classifiers of images whose layers have states of one width at each position, a first position for the image."""

CLASSIFIES_IMAGES = (
    *VISION_TRANSFORMERS,
    "convnext",
    "convnextv2",
    "efficientnet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilevit",
    "poolformer",
    "regnet",
    "resnet",
    "swin",
    "swinv2",
)
"""Architectures of ``AutoModelForImageClassification`` that are loaded for tasks on images."""


def embedding_problem(model_type: str, mean_head: bool) -> str | None:
    """Why the classifiers of an architecture give other outputs for the word embeddings of tokens than for the tokens
    themselves, in the words that follow "because"; None if they give the same. ``mean_head``: whether their head is
    this project's mean head."""
    if model_type in READS_TOKENS_ONLY:
        return READS_TOKENS_ONLY[model_type]
    if model_type in LAST_TOKEN_BY_ID and not mean_head:
        return "its classifier finds the last token of a row by its id"
    return None
