"""Many flags as a few values: a dataclass for each group of flags of a command."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let a command take dataclasses, and typer see their fields as its flags.

    Each parameter of `command` is annotated with a dataclass whose fields are annotated as
    typer's parameters are, every field with a default unless the flag is required.

    Raises:
        TypeError: a parameter is no dataclass, or two groups have a field of one name.
    """
    groups = get_type_hints(command)
    groups.pop("return", None)
    parameters: dict[str, inspect.Parameter] = {}
    for name, group in groups.items():
        if not dataclasses.is_dataclass(group):
            raise TypeError(f"{name} of {command.__name__} is no dataclass")
        hints = get_type_hints(group, include_extras=True)
        for field in dataclasses.fields(group):
            if field.name in parameters:
                raise TypeError(f"{field.name} is in two groups of {command.__name__}")
            absent = field.default is dataclasses.MISSING
            parameters[field.name] = inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if absent else field.default,
                annotation=hints[field.name],
            )

    @functools.wraps(command)
    def called(**values: Any) -> Any:
        return command(
            **{
                name: group(**{each.name: values[each.name] for each in dataclasses.fields(group)})
                for name, group in groups.items()
            }
        )

    called.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    called.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    del called.__wrapped__  # typing.get_type_hints would follow it
    return called


def given(flags: Any, **names: str) -> dict[str, Any]:
    """The fields of a group that were given, those that are not None.

    Args:
        names: other names for some of the fields.
    """
    found = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    return {names.get(name, name): value for name, value in found.items() if value is not None}
