"""What the commands do, as functions: train a run, prune it, audit its circuits, draw them, steer by them.

Each module stands for a command of `python -m circuits_jax`; `runs.run.Run` is what they work on.
"""
