"""What could stand in for the embedded segmenter or for the whole method, without a checkpoint.

They are here to be measured against what the package has; `benchmarks.accuracy` does that.
"""
