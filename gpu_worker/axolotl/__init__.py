"""Runs of an axolotl of the user's own, in an environment of its own: its program is called, nothing of it imported."""
