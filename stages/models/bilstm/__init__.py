"""Bidirectional LSTMs as students: what planning knows of them (``description`` and ``separators``, which import no
torch), and the model itself."""

from stages.models.bilstm.description import BILSTM, BILSTM_VARIANT, bilstm_parameters
from stages.models.bilstm.separators import separates_texts

__all__ = ["BILSTM", "BILSTM_VARIANT", "bilstm_parameters", "separates_texts"]
