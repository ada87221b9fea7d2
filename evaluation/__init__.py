"""The challenge's evaluation: the simulated user and the scores."""
