"""The house's own rules: who may import whom, how long a file may be, what names an axis."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

import gentheory
from gentheory.axes import AXES

PACKAGE = Path(gentheory.__file__).parent
FILES = sorted(file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py"))
LAYERS = (
    ("errors", "estimate", "seeds", "axes", "params", "trajectory"),
    (
        "infinite_width",
        "linalg",
        "models",
        "data",
        "mislabelled",
        "stats",
        "losses",
    ),
    ("risk", "checkpoint", "examples", "features", "middles", "modes"),
    ("curvature", "factors"),
    (
        "ascent",
        "attack",
        "bases",
        "collapse",
        "evidence",
        "landscape",
        "left_out",
        "noise_scale",
        "parameter_sets",
        "predicted",
        "predictions",
        "representation",
        "sgld",
        "tangent",
        "weights",
    ),
    ("measures", "training"),
    ("study", "pruning"),
    ("plots", "figures", "report", "trust", "optuna"),
    ("pruner_benchmark",),
    ("progress", "own_model", "rows", "asked", "plot_commands", "cli"),
)
SIDEWAYS = {
    ("params", "errors"),
    ("checkpoint", "risk"),
    ("examples", "risk"),
    ("features", "risk"),
    ("middles", "risk"),
    ("modes", "risk"),
    ("ascent", "parameter_sets"),
    ("landscape", "parameter_sets"),
    ("landscape", "ascent"),
    ("collapse", "predictions"),
    ("evidence", "predicted"),
    ("left_out", "bases"),
    ("left_out", "predicted"),
    ("noise_scale", "predictions"),
    ("predictions", "parameter_sets"),
    ("sgld", "parameter_sets"),
    ("figures", "plots"),
    ("report", "figures"),
    ("landscape", "predictions"),
    ("report", "plots"),
    ("trust", "report"),
    ("cli", "progress"),
    ("cli", "own_model"),
    ("cli", "plot_commands"),
    ("asked", "own_model"),
    ("plot_commands", "asked"),
    ("plot_commands", "own_model"),
    ("plot_commands", "progress"),
    ("cli", "asked"),
    ("cli", "rows"),
}
"""Who may import a neighbour in its own layer; never the other way round."""
LONGEST = 400


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def layer(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def part(file: Path) -> str:
    """`stats` for stats/rank.py, `risk` for risk.py, `__init__` for the package's own."""
    return file.parts[0].removesuffix(".py")


def imported(node: ast.Module) -> Iterator[str]:
    """Parts of gentheory imported anywhere in the file, in functions too."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            modules = [alias.name for alias in found.names]
        elif isinstance(found, ast.ImportFrom):
            assert not found.level, "relative import"
            of_package = found.module == "gentheory"
            modules = [f"{found.module}.{alias.name}" for alias in found.names]
            modules = modules if of_package else [str(found.module)]
        else:
            continue
        yield from (name.split(".")[1] for name in modules if name.startswith("gentheory."))


def allowed(importer: str, other: str) -> bool:
    lower = layer(other) < layer(importer)
    return lower or other == importer or (importer, other) in SIDEWAYS


def test_every_file_has_its_layer() -> None:
    known = {name for parts in LAYERS for name in parts}
    assert {part(file) for file in FILES} - known == {"__init__"}


@pytest.mark.parametrize("file", [f for f in FILES if part(f) != "__init__"], ids=str)
def test_imports_go_up_the_layers_only(file: Path) -> None:
    wrong = {other for other in imported(tree(file)) if not allowed(part(file), other)}
    assert not wrong, f"{file} (layer {layer(part(file))}) imports {wrong}"


def test_neighbours_that_may_be_imported_go_one_way() -> None:
    assert not {(b, a) for a, b in SIDEWAYS} & SIDEWAYS
    assert all(layer(a) == layer(b) for a, b in SIDEWAYS)


@pytest.mark.parametrize(
    ("importer", "other", "fine"),
    [
        ("measures", "risk", True),
        ("risk", "measures", False),
        ("stats", "data", False),
        ("checkpoint", "risk", True),
        ("risk", "checkpoint", False),
        ("curvature", "factors", False),
        ("study", "study", True),
    ],
)
def test_the_rule_itself(importer: str, other: str, fine: bool) -> None:
    assert allowed(importer, other) is fine


def test_imports_in_functions_and_of_names_are_seen() -> None:
    text = (
        "import gentheory.risk\n"
        "import torch.nn as nn\n"
        "from gentheory import models, losses as l\n"
        "def f():\n"
        "    from gentheory.data.recipe import Recipe\n"
    )
    assert set(imported(ast.parse(text))) == {"risk", "models", "losses", "data"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_file_is_too_long(file: Path) -> None:
    assert len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) <= LONGEST


def shapes(node: ast.Module) -> Iterator[str]:
    """Shapes of jaxtyping annotations, such as "M P" in Float[Tensor, "M P"]."""
    kinds = r"(Float|Int|Integer|UInt|Bool|Shaped|Num|Inexact|Real|Complex|Key)\d*"
    for found in ast.walk(node):
        if (
            isinstance(found, ast.Subscript)
            and isinstance(found.value, ast.Name)
            and re.fullmatch(kinds, found.value.id)
            and isinstance(found.slice, ast.Tuple)
            and isinstance(found.slice.elts[-1], ast.Constant)
        ):
            yield str(found.slice.elts[-1].value)


def letters(shape: str) -> set[str]:
    """Capital names of axes; numbers, lower-case names, `_` and `...` need no glossary."""
    return {name for name in re.findall(r"[A-Za-z]\w*", shape) if name[0].isupper()}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_axis_letters_are_in_the_glossary(file: Path) -> None:
    unknown = {shape for shape in shapes(tree(file)) if letters(shape) - set(AXES)}
    assert not unknown


def test_shapes_are_found() -> None:
    text = 'def f(x: Float[Tensor, "*batch M P"]) -> dict[str, Int64[Tensor, " Q _ 3 ..."]]: ...'
    assert list(shapes(ast.parse(text))) == ["*batch M P", " Q _ 3 ..."]
    assert [letters(shape) for shape in ("*batch M P", " Q _ 3 k ...")] == [{"M", "P"}, {"Q"}]
    assert sum(1 for file in FILES for _ in shapes(tree(file))) > 100


def test_the_glossary_is_in_use_and_says_one_thing_each() -> None:
    used = {letter for file in FILES for shape in shapes(tree(file)) for letter in letters(shape)}
    assert used <= set(AXES)
    meanings = sorted(AXES.values())
    assert all(one != other for one, other in pairwise(meanings))


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, gentheory; print(sorted({'torch', 'numpy', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    names = [alias.name for n in ast.walk(tree(Path("__init__.py"))) for alias in _reexports(n)]
    assert len(names) > 5
    for name in names:
        assert getattr(gentheory, name).__module__.startswith("gentheory.")
    with pytest.raises(AttributeError, match=r"module 'gentheory' has no attribute 'nothing'"):
        gentheory.nothing  # noqa: B018


def _reexports(node: ast.AST) -> list[ast.alias]:
    own = isinstance(node, ast.ImportFrom) and str(node.module).startswith("gentheory.")
    return node.names if own and isinstance(node, ast.ImportFrom) else []
