"""The commands: `python -m circuits_jax NAME`, or in a checkout `python -m experiments.NAME`.

Each module turns flags into one call of `circuits_jax.runs`, and prints what comes back.
"""
