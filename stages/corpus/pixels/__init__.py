"""The corpus of a task on images: what is read of the data in planning, and the rows that the stage writes."""
