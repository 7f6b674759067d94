"""What `tuneyard gpu plan` needs: the trainings of a recipe, and their memory as tables."""
