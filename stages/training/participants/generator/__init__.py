"""The adversary that writes texts (``adversary``), a masked language model, and its draws of tokens (``gumbel``)."""
