"""The package's page templates and their common style."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

_FOLDER = files("gentheory.report")


def template(name: str) -> Template:
    """The template in this file of the package: what it prints is escaped, and must be known."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((_FOLDER / name).read_text("utf-8"))


def style() -> str:
    """The style sheet that every page inlines."""
    return (_FOLDER / "page.css").read_text("utf-8")
