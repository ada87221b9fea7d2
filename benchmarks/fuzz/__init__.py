"""Spoilt files, and what comes of them: python -m benchmarks.fuzz [--short] (make fuzz).

Honest files are spoilt at random: the bytes, the zip, the arrays' headers, the pickles, the values.
`gamt predict` gets them beside honest ones, in this process's own workers and as `predict.sh`, and
the readers of images, prompts and frames get theirs from hypothesis and from atheris, which looks
for inputs that reach code nobody reached before. No file may crash or hang anything, take much
memory, run code, or cost another file its result.
"""
