"""Commands on submissions to the GLUE leaderboard."""
