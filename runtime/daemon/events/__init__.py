"""From people to what an operator wants to be told of: somebody is there, fell, raises a hand."""
