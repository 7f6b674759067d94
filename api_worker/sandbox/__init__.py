"""A local server that speaks the providers' APIs, so that a recipe can be rehearsed without paying.

It keeps files, moves jobs through their states by the clock, refuses and fails as it is told to, and trains nothing.
"""
