"""The GPU side: base models, training, merging, evaluation. Heavy libraries are imported in child processes alone."""
