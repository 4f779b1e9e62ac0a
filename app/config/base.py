"""The base of every table of the settings, and tables of which only some values are valid.

Cross-checks read typed values, and all faults are reported at once. So a table with a fault keeps
the values that are valid: `Table.valid_part` builds it, and reading any other raises `HasFault`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, wraps
from inspect import isclass
from typing import TYPE_CHECKING, Any, ParamSpec, Self, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

Loc = tuple[int | str, ...]
"""Where a value is, such as ``("issuers", 0, "leeway")``."""

Fault = tuple[Loc, str]
"""A place and a sentence, which never contains the value: it may be a secret."""


_P = ParamSpec("_P")


class HasFault(Exception):
    """A value that a cross-check reads has a fault of its own."""


def rule(check: Callable[_P, Iterator[Fault]]) -> Callable[_P, Iterator[Fault]]:
    """Make a generator of faults end early at a value that has a fault of its own."""

    @wraps(check)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[Fault]:
        with suppress(HasFault):
            yield from check(*args, **kwargs)

    return checked


class Table(BaseModel):
    """A table of the settings: no unknown names, and immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise HasFault(name)
            return super().__getattr__(name)

    @classmethod
    def valid_part(cls, raw: Mapping[str, Any]) -> Self:
        """The table without the values that have a fault."""
        values, faulty = {}, set[str]()
        for name, field in cls.model_fields.items():
            if name not in raw:
                if field.is_required():
                    faulty.add(name)
                continue
            try:
                values[name] = _typed(cls, name, raw[name])
            except ValidationError:
                faulty.add(name)
        table = cls.model_construct(raw.keys() & cls.model_fields.keys(), **values)
        for name in faulty:
            vars(table).pop(name, None)  # its default
        return cast("Self", table)

    def get(self, name: str) -> Any:
        """The value; None where it has a fault."""
        return vars(self).get(name)


def nested_table(field: FieldInfo) -> type[Table] | None:
    """The class of a field that is a table or tables, each with a default."""
    classes = get_args(field.annotation)
    return next((c for c in classes if isclass(c) and issubclass(c, Table)), None)


def _typed(cls: type[Table], name: str, raw: Any) -> Any:
    """The typed value of a field. Raises `ValidationError`."""
    annotation = cls.model_fields[name].annotation
    nested = nested_table(cls.model_fields[name])
    if nested is not None and get_origin(annotation) is tuple:
        if isinstance(raw, list):
            return tuple(nested.valid_part(r if isinstance(r, dict) else {}) for r in raw)
    elif nested is not None and isinstance(raw, dict):
        return nested.valid_part(raw)
    return _adapter(cls, name).validate_python(raw)


@cache
def _adapter(cls: type[Table], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(cls.model_fields[name].rebuild_annotation())
