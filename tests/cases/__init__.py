"""Sample cases in the challenge's format: one of each modality, and the run over all of them."""
