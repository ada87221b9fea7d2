"""Text of files, names and other programs, as it may be shown."""

import re


def printable(text: object) -> str:
    r"""Returns a text as one line that a terminal shows and doesn't obey.

    Control characters, line ends and what turns the direction of writing appear as Python escapes
    them, such as ``\x1b``; the bytes of a file name that isn't UTF-8 appear as ``\xff``.

    Args:
        text: anything that `str` takes, such as a path.
    """
    return "".join(c if c.isprintable() else _escape(c) for c in str(text))


def describe_error(error: BaseException) -> str:
    """Returns an exception in one line, with its type; some say nothing else."""
    return printable(" ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":"))


def hide_login(text: str) -> str:
    """Returns a text without the user's name and password that are in its addresses."""
    return re.sub(r"//[^/\s]*@", "//", text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that isn't UTF-8, as PEP 383 reads it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
