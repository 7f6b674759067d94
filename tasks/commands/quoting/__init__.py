"""What `tuneyard quote` counts and compares: the fine-tunes of a recipe, at every place that could do them."""
