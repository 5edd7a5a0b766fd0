"""What a data file holds, for a task that has no description yet: columns, labels, lengths, and the split of a file."""
