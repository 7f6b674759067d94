"""Whether a run fits before it starts, and what is made smaller when it did not fit after all. Imports no torch."""
