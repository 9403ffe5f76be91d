"""Types of the compiled half of the package."""

from typing import Any, Mapping, Sequence

from numpy import dtype
from numpy.typing import ArrayLike, NDArray

__version__: str

class Error(RuntimeError):
    kind: str

class Port:
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def dtype(self) -> dtype[Any]: ...
    @property
    def shape(self) -> tuple[int | str, ...]: ...

class HostPort:
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def shape(self) -> tuple[int | str, ...] | None: ...

class Module:
    def __call__(self, *args: ArrayLike, **kwargs: ArrayLike) -> NDArray[Any] | tuple[NDArray[Any], ...]: ...
    def run(self, feeds: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]: ...
    @property
    def inputs(self) -> tuple[Port, ...]: ...
    @property
    def outputs(self) -> tuple[Port, ...]: ...
    @property
    def bound(self) -> dict[str, NDArray[Any]]: ...
    @property
    def threads(self) -> int: ...

class HostModule:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]: ...
    @property
    def inputs(self) -> tuple[HostPort, ...]: ...
    @property
    def outputs(self) -> tuple[HostPort, ...]: ...
    @property
    def bound(self) -> dict[str, NDArray[Any]]: ...
    @property
    def threads(self) -> int: ...
    @property
    def notes(self) -> list[str]: ...

class Model:
    def __init__(self, path: str | None = None, data: bytes | None = None) -> None: ...
    @property
    def inputs(self) -> list[tuple[str, str, list[int | str | None] | None, bool]]: ...
    @property
    def outputs(self) -> list[tuple[str, str, list[int | str | None] | None, bool]]: ...
    def compile(
        self,
        *,
        dims: Mapping[str, int],
        shapes: Mapping[str, str],
        at_most: Mapping[str, str] | None = None,
        bind: Mapping[str, ArrayLike] | None = None,
        feeds: Mapping[str, Any] | None = None,
        threads: int | None = 1,
        target: str | None = None,
        tier: str | None = None,
        denormals: str | None = None,
    ) -> Module | HostModule: ...
    def explain(
        self,
        *,
        dims: Mapping[str, int],
        shapes: Mapping[str, str],
        at_most: Mapping[str, str] | None = None,
        target: str | None = None,
        tier: str | None = None,
        denormals: str | None = None,
        missed: bool = False,
        verbose: bool = False,
    ) -> str: ...
