"""What takes part in the steps of a training beside the rows of the task."""
