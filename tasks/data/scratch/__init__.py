"""What is looked at again at the end of a stream waits in unnamed files, so that memory does not grow with it."""
