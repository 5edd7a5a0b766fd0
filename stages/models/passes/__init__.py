"""How the forward and backward passes of a model are computed: the same results by fewer or other products."""
