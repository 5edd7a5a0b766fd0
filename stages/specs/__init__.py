"""What makes each stage's result what it is, and the tasks and methods that specs are made of.

Nothing here imports torch: planning reads these models.
"""
