"""What every command of the project does with an error: one line for people, no traceback."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from medlib.errors import BookError, MedlibError


class OneLineErrors(TyperGroup):
    """Errors for people end in one line on standard error, everything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MedlibError as error:
            typer.echo(f"{ctx.find_root().command.name}: {error}", err=True)
            raise typer.Exit(1 if isinstance(error, BookError) else 2) from None


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
