"""The page of gamt annotate in a browser, driven as a user would."""
