"""The queue: what a job is, where it stands, and who runs it when."""
