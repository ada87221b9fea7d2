"""The paths of the page of ``gamt annotate``: one scan at a time, for all tabs that show it."""
