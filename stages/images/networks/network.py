"""What the networks for small images have in common: the call, the first weights, and the names of their files."""

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from stages.images.networks.description import NETWORK_VARIANT


class ImageNetwork(PreTrainedModel):
    """A backbone, which gives maps and the features of an image, and a linear classifier.

    The backbone is a module whose call takes pixels [B, channels, H, W] and returns the features [B, F] with the maps
    [B, C_l, H_l, W_l] of the stem and of each stage.
    """

    base_model_prefix = "backbone"
    main_input_name = "pixel_values"
    input_modalities = ["image"]  # noqa: RUF012

    def __init__(self, config: Any, backbone: nn.Module, features: int) -> None:
        super().__init__(config)
        self.num_labels = cast(int, config.num_labels)
        self.backbone = backbone
        self.classifier = nn.Linear(features, self.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: Tensor, labels: Tensor | None = None, output_hidden_states: bool = False, **_: Any
    ) -> ImageClassifierOutputWithNoAttention:
        """Logits [B, C] of normalised images [B, channels, H, W], with ``output_hidden_states`` the maps
        [B, C_l, H_l, W_l] of the stem and of each stage, and a loss where there are labels. Raises ValueError for
        images of another shape than the network reads."""
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values: of shape {list(pixel_values.shape)}, where [rows, {self.config.num_channels}, height, "
                "width] is read; give images with as many channels as num_channels says"
            )
        features_BF, maps = self.backbone(pixel_values)
        logits_BC = self.classifier(features_BF)
        return ImageClassifierOutputWithNoAttention(
            loss=None if labels is None else ForSequenceClassificationLoss(labels, logits_BC, self.config),
            logits=logits_BC,
            hidden_states=tuple(maps) if output_hidden_states else None,
        )

    def _init_weights(self, module: nn.Module) -> None:
        """He et al. 2015: weights normal with variance 2 / fan-in, biases 0; norms as torch has them. Weights that were
        loaded are kept."""
        if isinstance(module, nn.Conv2d | nn.Linear):
            init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            super()._init_weights(module)

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers, but for the names of the files with weights, which have the variant
        ``NETWORK_VARIANT``."""
        super().save_pretrained(save_directory, *args, **{"variant": NETWORK_VARIANT, **kwargs})
