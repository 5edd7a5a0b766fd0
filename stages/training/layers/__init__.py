"""The layer term of the loss: the distances between layers of student and teacher, and the projections they need."""
