"""How a case was segmented, written down and shown as a page."""
