"""Training-free lifting of promptable 2-D segmentation models to 3-D medical scans."""
