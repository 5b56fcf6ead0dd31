"""Configurations that come with the library, each a file with a `get_config()`: `--config=quickstart`.

A new run is a new file of this form, or a few flags.
"""
