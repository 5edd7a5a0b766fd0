"""The spec of each stage, which identifies its result, and the tasks and methods that specs contain.

Nothing here imports torch, so that planning stays light.
"""
