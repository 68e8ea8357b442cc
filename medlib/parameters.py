"""What a user chooses, checked once: at the door, before anything is opened or made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError

from medlib.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SEEDS = "a whole number from 0 to 4294967295"
AS_TEXT = ", not its text; papermill hands numbers over with -p, text with -r"


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse what is not as the annotations of a function say, which otherwise is as it was.

    Raises InputError, in one line. Text that only looks like a number is none, or one run would
    go by two names; nor is the text ``None`` taken for a folder.
    """
    hints = get_type_hints(function, include_extras=True)
    expected = {name: TypeAdapter[Any](hint) for name, hint in hints.items() if name != "return"}
    signature = inspect.signature(function)

    @functools.wraps(function)
    def door(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            try:
                expected[name].validate_python(value, strict=True)
            except ValidationError as error:
                said = error.errors()[0]["msg"].lower().removeprefix("input should be ")
                if Seed in (hints[name], *get_args(hints[name])):
                    said = SEEDS + AS_TEXT * isinstance(value, str)
                raise InputError(f"{name} is {value!r:.80}: expected {said}") from None
            if value in ("", "None"):
                raise InputError(f"{name} is the text {value!r}: leave it out for the default")
        return function(*args, **kwargs)

    return door
