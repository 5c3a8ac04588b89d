"""Classes that the library makes and users only hold."""

from __future__ import annotations

import abc
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_OUR_MODULES: Final = __name__.partition(".")[0] + "."


class NoPublicConstructor(abc.ABCMeta):
    """A metaclass whose classes cannot be called; with ``final=True`` only we derive from them."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, final: bool = False
    ) -> NoPublicConstructor:
        for base in bases:
            is_ours = namespace.get("__module__", "").startswith(_OUR_MODULES)
            if base.__dict__.get("_is_final") and not is_ours:
                raise TypeError(f"{base.__name__} is final: wrap it instead of deriving from it")
        namespace["_is_final"] = final
        return super().__new__(cls, name, bases, namespace)

    def __call__(cls, *args: object, **kwargs: object) -> None:
        raise TypeError(f"{cls.__name__} has no public constructor: see its documentation")

    def _create(cls: type[_T], *args: object, **kwargs: object) -> _T:
        return super().__call__(*args, **kwargs)  # type: ignore[misc, no-any-return]
