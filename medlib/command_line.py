"""What every command of the project does with an error: one line for people, no traceback."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from medlib.errors import BookError, MedlibError

# What is full, read-only or not ours is mended by the user, too.
OF_THE_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)


class OneLineErrors(TyperGroup):
    """Errors for people end in one line on standard error, everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MedlibError as error:
            # What a file holds may stand in a message, and anything may stand in a file.
            line = "".join(c if c.isprintable() else "?" for c in str(error))
            typer.echo(f"{ctx.find_root().command.name}: {line}", err=True)
            raise typer.Exit(1 if isinstance(error, BookError) else 2) from None
        except OSError as error:
            if error.errno not in OF_THE_DISK:
                raise
            name = f"{error.filename}: " if error.filename else ""
            typer.echo(f"{ctx.find_root().command.name}: {name}{error.strerror}", err=True)
            raise typer.Exit(2) from None


def command_app(name: str, about: str) -> typer.Typer:
    """Return an application without commands yet, that ends errors so."""
    return typer.Typer(
        name=name,
        cls=OneLineErrors,
        help=about,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
