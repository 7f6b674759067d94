"""What `tuneyard providers` shows: accounts of the settings, listings of the catalogue, jobs at the providers."""
