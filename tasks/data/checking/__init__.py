"""What a provider would say to a file, said before it is uploaded."""
