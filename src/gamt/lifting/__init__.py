"""The method: from prompts to a 3-D segmentation; `pipeline` is its table of contents."""
