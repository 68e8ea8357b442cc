"""What code does, as a digest: another comment or docstring is not another result."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_digest(sources: Iterable[Path]) -> str:
    """Return a SHA-256 of Python files without comments, docstrings and empty lines.

    The text itself is digested, not its syntax tree, which differs between Python versions.

    Parameters
    ----------
    sources : iterable of Path

    Returns
    -------
    str
    """
    total = hashlib.sha256()
    for source in sources:
        code = bare_code(source.read_text(encoding="utf-8")).encode()
        total.update(len(code).to_bytes(8, "little"))
        total.update(code)
    return total.hexdigest()


def bare_code(text: str) -> str:
    """Return Python source without comments, docstrings and empty lines."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            last = docstring.end_lineno or docstring.lineno
            lines[docstring.lineno - 1 : last] = [""] * (last - docstring.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())
