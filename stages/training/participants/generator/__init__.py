"""The adversary that writes texts (``adversary``), a masked language model, and the draws of its tokens (``gumbel``)."""
