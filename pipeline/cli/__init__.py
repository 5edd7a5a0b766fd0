"""The command line: a file for each command, and what several commands share."""
