"""What the GLUE leaderboard takes: the files of a submission, the rows that they are about, and a check of them."""
