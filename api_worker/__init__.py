"""The hosted side: providers behind one protocol, and the sandbox that stands in for them."""
