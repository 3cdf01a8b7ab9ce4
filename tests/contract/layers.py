"""Checks of the source itself: who imports whom, who reads the environment, how long a module is. Pure."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping

LAYERS = ("run", "app.main", "handlers", "app", "models")
"""Outermost first. A module imports from its own layer or from one further in."""

WITHOUT_EFFECTS = ("app.hub", "app.protocol", "app.changes", "app.permissions", "app.position")
_EFFECTS = frozenset(
    {
        "asyncio", "aiofiles", "bson", "concurrent", "http", "io", "motor", "multiprocessing", "os", "pathlib",
        "pymongo", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "ssl",
        "subprocess", "sys", "tempfile", "threading", "time", "tornado", "urllib",
    }
)  # fmt: skip
_DRIVERS = frozenset({"bson", "gridfs", "motor", "pymongo"})
MAX_CODE_LINES = 330

Sources = Mapping[str, str]
"""Source texts by the module's dotted name."""


def complaints(sources: Sources) -> list[str]:
    """All that is wrong with the source, each a sentence."""
    found: list[str] = []
    for module, text in sorted(sources.items()):
        imported = list(imports(text))
        found += _layers(module, imported)
        found += _drivers(module, imported)
        found += _environment(module, text)
        found += _effects(module, imported)
        if code_lines(text) > MAX_CODE_LINES:
            found.append(f"{module} has {code_lines(text)} lines of code; split it")
    return found


def imports(text: str) -> Iterator[str]:
    """Dotted names of what a module imports, anywhere in it; for ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def code_lines(text: str) -> int:
    """Lines that hold code: no blank ones, comments or docstrings."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    idle = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for token in tokens if token.type not in idle for line in range(token.start[0], token.end[0] + 1)}
    return len(lines - docstrings)


def layer(name: str) -> int | None:
    """The number of a module's layer; None for what is not ours."""
    for number, prefix in enumerate(LAYERS):
        if name == prefix or name.startswith(prefix + "."):
            return number
    return None


def _layers(module: str, imported: list[str]) -> Iterator[str]:
    own = layer(module)
    for name in imported:
        other = layer(name)
        if other is not None and own is not None and other < own:
            yield f"{module} imports {name}, which is further out"
        if own == LAYERS.index("handlers") and name.partition(".")[0] in _DRIVERS:
            yield f"{module} imports {name}; handlers call stores"


def _drivers(module: str, imported: list[str]) -> Iterator[str]:
    if module != "app.database" and any(name.partition(".")[0] == "motor" for name in imported):
        yield f"{module} imports motor; only app.database does"


def _environment(module: str, text: str) -> Iterator[str]:
    if module == "app.settings":
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb", "putenv"):
            # Motor reads one variable while it is imported, so it must stand in the environment before.
            line = text.splitlines()[node.lineno - 1]
            if module == "app.database" and line.startswith('os.environ.setdefault("MOTOR_MAX_WORKERS"'):
                continue
            yield f"{module} uses os.{node.attr} in line {node.lineno}; only app.settings reads the environment"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (
                f"{module} imports {alias.name} from os"
                for alias in node.names
                if alias.name in ("environ", "environb", "getenv")
            )


def _effects(module: str, imported: list[str]) -> Iterator[str]:
    if module in WITHOUT_EFFECTS:
        yield from (
            f"{module} imports {name} and is to do no I/O" for name in imported if name.partition(".")[0] in _EFFECTS
        )
