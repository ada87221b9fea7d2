"""One-file HTML pages; needs Jinja, which the extra ``gamt[explain]`` brings."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gamt.io.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"
"""What all pages begin with: base.html and base.css."""


def render_html(template: str, folder: Path = TEMPLATES, **values: Any) -> str:
    """Returns a template, filled in.

    Args:
        template: the name of a file in `folder`, which may extend base.html.
        folder: of the template and what it includes.
        values: what the template names. Text is escaped: names of cases and methods are anybody's.
    """
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def write_html(path: Path, template: str, folder: Path = TEMPLATES, **values: Any) -> None:
    """Fills in a template; the page appears at once and whole, or not at all.

    Args:
        path: the page; its folder is made where there is none.
        template: as for `render_html`.
        folder: likewise.
        values: likewise.
    """
    text = render_html(template, folder, **values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))  # names of files may not be UTF-8
