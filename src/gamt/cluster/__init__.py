"""Tasks on many workers: processes of this machine, or of those that Dask reaches."""
