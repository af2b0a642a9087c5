"""From a specification (name, object or configuration) to an object and back. Used by initializers, regularizers and
constraints, which are all a name with a few numbers. Not for layers, which have a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar


class Configurable(Protocol):
    def get_config(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Configurable)


def resolve(kind: str, spec: Any, base: type[T], names: Mapping[str, Callable[..., T]]) -> T:
    """`spec`: an instance of `base`, a class of it, a name, or `{"class_name": ..., "config": {...}}`."""
    if isinstance(spec, base):
        return spec
    if isinstance(spec, type) and issubclass(spec, base):
        return spec()
    config: dict[str, Any] = {}
    name = spec
    if isinstance(spec, dict):
        name, config = spec.get("class_name"), dict(spec.get("config") or {})
    if not isinstance(name, str):
        raise TypeError(f"[{kind}] spec: expected a name, a {base.__name__} or a configuration, got {spec!r}")
    if name not in names:
        known = ", ".join(sorted({n for n in names if n.islower()}))
        raise ValueError(f"[{kind}] name: expected one of {known}, got {name!r}")
    try:
        return names[name](**config)
    except TypeError as error:
        if str(error).startswith("["):
            raise
        raise ValueError(f"[{kind}] config: expected the arguments of {name}, got {config!r}") from error


def serialize(kind: str, value: Any, base: type[Any]) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, base):
        raise TypeError(f"[{kind}] value: expected a {base.__name__} to write it down, got {value!r}")
    return {"class_name": type(value).__name__, "config": value.get_config()}
