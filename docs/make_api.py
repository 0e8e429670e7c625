"""docs/api.md, made from the docstrings of the public names: `python docs/make_api.py`, or `make docs`.

A public name is one in `__all__` of `contralign` or of a package directly below it. griffe reads the source and parses
the Google docstrings; nothing is imported. This file only lays out what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
HEAD = """# What you import

Made by `make docs` from the docstrings; a test holds this page to them. These names stay, and a change of one is told
in the [changelog](../CHANGELOG.md). All that is not on this page, every deeper module included, may move or change at
will. Importing a package costs nothing: a name brings in what it needs when it is first used.
"""
WIDTH = 110
TITLES = {
    "parameters": "Args",
    "attributes": "Attributes",
    "returns": "Returns",
    "yields": "Yields",
    "raises": "Raises",
}


def page() -> str:
    """The whole page."""
    root: Any = griffe.load(
        "contralign",
        search_paths=[ROOT / "src"],
        docstring_parser="google",
        docstring_options={"warnings": False},  # of arguments that a class inherits
    )
    packages = [
        root,
        *(module for _, module in sorted(root.modules.items()) if module.is_subpackage and module.exports),
    ]
    public = {package.members[name].final_target for package in packages for name in package.exports}
    parts = [HEAD, "\n".join(contents(package) for package in packages) + "\n"]
    for package in packages:
        parts.append(f"## {package.path}\n\n{package.docstring.value}\n")
        parts += (entry(name, package.members[name].final_target, public) for name in sorted(package.exports))
    return "\n".join(parts)


def contents(package: Any) -> str:
    """One line: the package, and links to its names."""
    links = ", ".join(f"[`{name}`](#{name.lower()})" for name in sorted(package.exports))
    return f"- `{package.path}`: {links}"


def entry(name: str, thing: Any, public: set[Any]) -> str:
    """A class with its methods, a function, or a constant."""
    parts = [f"### {name}\n", fenced(signature(name, thing)), *described(thing)]
    if thing.is_class:
        parts += inherited_attributes(thing, public)
        for member in thing.members.values():
            if member.name == "__init__":
                parts += described(member)
            elif _is_public(member):
                parts += [f"#### {name}.{member.name}\n", fenced(signature(member.name, member)), *described(member)]
    return "\n".join(parts)


def signature(name: str, thing: Any) -> str:
    """As in the source, on one line if it fits."""
    if thing.is_attribute:
        return f"{name}: {thing.annotation}" if thing.annotation else f"{name} = {thing.value}"
    start = f"class {name}" if thing.is_class else f"def {name}"
    parameters = [parameter for parameter in thing.parameters if parameter.name not in ("self", "cls")]
    if thing.is_class and not parameters:
        return f"{start}({', '.join(map(str, thing.bases))})".removesuffix("()")
    end = f") -> {thing.returns}" if thing.is_function and thing.returns else ")"
    shown = list(_with_markers(parameters))
    start = "@classmethod\n" * ("classmethod" in thing.labels) + start
    line = f"{start}({', '.join(shown)}{end}"
    return line if len(line) <= WIDTH else "\n".join([f"{start}(", *(f"    {each}," for each in shown), end])


def _with_markers(parameters: list[Any]) -> Iterator[str]:
    starred = False
    for parameter in parameters:
        kind = parameter.kind.value
        starred |= kind == "variadic positional"
        if kind == "keyword-only" and not starred:
            yield "*"
            starred = True
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        told = f"{stars}{parameter.name}" + (f": {parameter.annotation}" if parameter.annotation else "")
        default = None if stars else parameter.default
        yield told if default is None else f"{told}{' = ' if parameter.annotation else '='}{default}"


def described(thing: Any) -> Iterator[str]:
    """The docstring: its text, then a list for each section."""
    for section in thing.docstring.parsed if thing.docstring else ():
        if section.kind.value == "text":
            yield section.value + "\n"
        else:
            yield _listed(TITLES[section.kind.value], section.value)


def inherited_attributes(thing: Any, public: set[Any]) -> Iterator[str]:
    """Attributes told by bases that have no entry of their own."""
    for base in thing.mro():
        if base not in public and base.docstring:
            for section in base.docstring.parsed:
                if section.kind.value == "attributes":
                    yield _listed("Attributes", section.value)


def _listed(title: str, items: list[Any]) -> str:
    lines = [f"{title}:\n"]
    for item in items:
        name = getattr(item, "name", "") or (item.annotation if title == "Raises" else "")
        text = item.description.replace("\n", "\n  ")
        lines.append(f"- `{name}`: {text}" if name else f"- {text}")
    return "\n".join(lines) + "\n"


def _is_public(member: Any) -> bool:
    """A documented method or property; fields are told by the class."""
    named = member.name == "__call__" or not member.name.startswith("_")
    return named and member.docstring and (member.is_function or "property" in member.labels)


def fenced(code: str) -> str:
    """A block of Python."""
    return f"```python\n{code}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
