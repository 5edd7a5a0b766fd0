"""Recipe -> nodes and edges, their keys, and the identities of inputs from outside."""
