"""The loss of a batch: the student and what is trained with it, layers matched with the teacher's, and their weight."""
