"""The package's page templates and their common style."""

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

_FOLDER = files("gentheory.report")


def template(name: str) -> Template:
    """The template in this file of the package: what it prints is escaped, and must be known."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda file: (_FOLDER / file).read_text("utf-8")),
    )
    return environment.get_template(name)


def style() -> str:
    """The style sheet that every page inlines."""
    return (_FOLDER / "page.css").read_text("utf-8")
