"""A scan made ready for a segmenter: cropped, resampled, its slices encoded once."""
