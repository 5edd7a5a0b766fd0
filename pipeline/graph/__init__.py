"""Recipe -> nodes and edges, their keys, and the identities of external inputs."""
