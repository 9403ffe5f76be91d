"""Types of the compiled half of the package."""

from os import PathLike
from typing import Any, Mapping, Sequence

from numpy import dtype
from numpy.typing import ArrayLike, NDArray

__version__: str

class Error(RuntimeError):
    kind: str
    #: Of `egret.compress`, where a goal cannot be met: the best copy that was found, an `egret.Compressed`.
    best: Any

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
    def save(self, path: str | PathLike[str]) -> None: ...

def load(path: str | PathLike[str], threads: int | None = 1) -> Module: ...

_Path = str | PathLike[str]

def quantize(
    model: _Path, *, to: str, runtime: str | None, data: Sequence[_Path], stats: Sequence[_Path], skip: Sequence[str], smooth: bool
) -> tuple[bytes, str]: ...
def prune(
    model: _Path,
    *,
    to: str,
    method: str,
    data: Sequence[_Path],
    stats: Sequence[_Path],
    scope: str | None,
    multiple: int | None,
    all: bool,
    layers: Mapping[str, str],
    skip: Sequence[str],
) -> tuple[bytes, str]: ...
def compress(
    model: _Path,
    *,
    data: Sequence[_Path],
    stats: Sequence[_Path],
    eval: Sequence[_Path],
    metric: str | None,
    to: str,
    size: str | None,
    budget: str | None,
    speed: str | None,
    zeros: str | None,
    target: str | None,
    measure: bool,
    skip: Sequence[str],
) -> tuple[bytes, str, str, str | None]: ...
def check(
    model: _Path,
    *,
    inputs: Sequence[_Path],
    expected: _Path | None,
    dims: Mapping[str, int],
    given_shapes: Mapping[str, str],
    at_most: Mapping[str, str],
    bind: Mapping[str, _Path],
    random: int,
    threads: int | None,
    target: str | None,
    tier: str | None,
    denormals: str | None,
    max_trips: int,
) -> list[tuple[str, str, str]]: ...
def write(path: _Path, bytes: bytes) -> None: ...
def writable(path: _Path, read: Sequence[_Path]) -> None: ...

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
    def save(self, path: str | PathLike[str]) -> None: ...

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
        host_loops: bool = False,
    ) -> Module | HostModule: ...
    def report(
        self,
        path: str | PathLike[str],
        *,
        dims: Mapping[str, int],
        shapes: Mapping[str, str],
        at_most: Mapping[str, str] | None = None,
        bind: Mapping[str, ArrayLike] | None = None,
        target: str | None = None,
        tier: str | None = None,
        denormals: str | None = None,
    ) -> None: ...
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
