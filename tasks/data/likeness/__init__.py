"""How alike examples are: what of them is compared, exactly and nearly, and which copies are meant to be there."""
