"""`gamt serve`: sessions over HTTP, for 3D Slicer, napari and whatever speaks their protocols."""
