"""One scan and its targets, as they are annotated by clicks: kept, told, saved and recovered."""
