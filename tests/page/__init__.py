"""Tests of the page of `gamt annotate` in a browser."""
