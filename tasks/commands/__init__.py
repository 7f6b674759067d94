"""Commands that need more than the queue: one module a command, found by listing this folder."""
