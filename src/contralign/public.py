"""Public names of a package that are imported when they are first used, so that importing the package costs nothing."""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package takes as its `__getattr__` and `__dir__` (PEP 562), in this order.

    Its names, and the modules that define them, are those that it imports under `if TYPE_CHECKING:`.

    Args:
        package: its name.
    """
    tree = ast.parse(pkgutil.get_data(package, "__init__.py") or b"")
    imports = [node for block in tree.body if isinstance(block, ast.If) for node in block.body]
    homes = {one.name: str(node.module) for node in imports if isinstance(node, ast.ImportFrom) for one in node.names}

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(homes))}")
        return getattr(importlib.import_module(homes[name]), name)

    return attribute, lambda: sorted(homes)
