"""Classification heads: which one a model has, from its configuration (``kinds``, which imports no torch), the mean
head, and the states that a head reads."""

from stages.models.heads.kinds import (
    CRF_HEAD,
    CRF_HEAD_NAME,
    ENCODER_TYPE,
    HEAD_FIELD,
    MEAN_HEAD,
    MEAN_HEAD_VARIANT,
    POOLING_FIELD,
    POOLING_VALUES,
    changed_head,
    check_head,
    encoder_config,
    has_token_labels,
    head_of,
    is_own_class,
    loads_with,
    trained_with_mean_pooling,
)

__all__ = [
    "CRF_HEAD",
    "CRF_HEAD_NAME",
    "ENCODER_TYPE",
    "HEAD_FIELD",
    "MEAN_HEAD",
    "MEAN_HEAD_VARIANT",
    "POOLING_FIELD",
    "POOLING_VALUES",
    "changed_head",
    "check_head",
    "encoder_config",
    "has_token_labels",
    "head_of",
    "is_own_class",
    "loads_with",
    "trained_with_mean_pooling",
]
