"""Recipes on disk: YAML with a `base:`, changes from the command line, and where recipes are looked for.

A recipe states the difference to its base. Mappings are merged, lists and scalars replaced; `null` takes a stage of the
base away, and gives a setting its default. A base passes on everything but `name` and `output_dir`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from contralign.nearest import nearest
from contralign.recipe.plan import RunPlan
from contralign.recipe.planning import plan_of
from contralign.recipe.recipe import Recipe, plain
from contralign.recipe.rehearsal import TINY_SHAPE, rehearsed
from contralign.recipe.schema import RecipeError, from_mapping, join, merge

ABLATION_KEY = "recipe"
"""Every ablation file has it, and no recipe: see `contralign.ablation`."""
LAUNCH_FILES = "accelerate"
"""Folder beside the recipes with the files of `accelerate launch`, which are none."""
PACKAGED = Path(__file__).resolve().parent.parent / "recipes"
FLOAT = re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class RecipeLoader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`; a key that stands twice is an error with its line."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise RecipeError(f"line {key_node.start_mark.line + 1}: a name was wanted before ':', got {key!r}")
            if key in seen:
                raise RecipeError(f"line {key_node.start_mark.line + 1}: {key!r} stands twice; keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)


RecipeLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
RecipeLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^({FLOAT.pattern})$"), list("-+0123456789."))


def parse(text: str, origin: str) -> Any:
    """The value of a YAML text.

    Raises:
        RecipeError: no YAML, or a key that stands twice.
    """
    try:
        return yaml.load(text, RecipeLoader)
    except RecipeError as error:
        raise RecipeError(f"{origin}: {error}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: this is not YAML: {error}") from error


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with contralign ("tiny/demo").

    Raises:
        RecipeError: there is no such file.
    """
    if Path(name).is_file():
        return Path(name)
    packaged = (PACKAGED / name.removeprefix("recipes/")).with_suffix(".yaml").resolve()
    if packaged in packaged_recipes():
        return packaged
    known = [str(path.relative_to(PACKAGED).with_suffix("")) for path in packaged_recipes()]
    raise RecipeError(
        f"{name}: no such recipe file, and none comes with contralign by this name; {nearest(name, known)}"
    )


def packaged_recipes() -> list[Path]:
    """Files of the recipes that come with contralign, bases and ablations too."""
    return sorted(path for path in PACKAGED.glob("*/*.yaml") if path.parent.name != LAUNCH_FILES)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe that `load_plan` plans."""
    return load_plan(path, overrides).recipe


def load_plan(path: str | Path, overrides: Sequence[str] = ()) -> RunPlan:
    """Read a recipe, merge it into its base, apply changes, check everything, and say what a run of it does.

    Args:
        path: YAML file; its `base:` is relative to it, or the name of a recipe of contralign.
        overrides: "dotted.key=value" changes; the value is YAML. `model=tiny-shape` rehearses the recipe, wherever it
            stands among them (see `contralign.recipe.rehearsal`).

    Raises:
        RecipeError: anything that cannot be followed, with its place.
    """
    path = Path(path)
    values = read_values(path)
    changes = [parse_override(override) for override in overrides]
    if ("model", TINY_SHAPE) in changes:
        changes = [change for change in changes if change != ("model", TINY_SHAPE)]
        values = rehearsed(values, [key for key, _ in changes], values.get("name") or path.stem)
    for key, value in changes:
        values = put(values, key, value)
    return plan_from(values, path)


def plan_from(values: Mapping[str, Any], path: Path) -> RunPlan:
    """The plan of merged values; a stage that is null is taken away.

    Args:
        values: of a recipe file, with all changes.
        path: the file: its name is the recipe's where it has none, and errors name it.

    Raises:
        RecipeError: anything that cannot be followed, with its place.
    """
    values = dict(values)
    if isinstance(values.get("stages"), Mapping):
        values["stages"] = {name: stage for name, stage in values["stages"].items() if stage is not None}
    try:
        return plan_of(from_mapping(Recipe, values | {"name": values.get("name") or path.stem}))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def apply_override(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    """`values` with one "dotted.key=value" of the command line; the value replaces what was there.

    Raises:
        RecipeError: no "=", or a place that no recipe has.
    """
    key, value = parse_override(override)
    return put(values, key, value)


def parse_override(override: str) -> tuple[str, Any]:
    """Dotted key and value of "dotted.key=value".

    Raises:
        RecipeError: no "=", no key, or a value that is no YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"{override!r}: wanted key=value, such as data.max_length=512")
    return key, parse(text, key)


def put(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with `value` at a dotted key; it replaces what was there.

    Raises:
        RecipeError: a place that no recipe has.
    """
    names = key.split(".")
    if not all(names):
        raise RecipeError(f"{key!r}: an empty name between the dots")
    if names[0] == "stages" and len(names) > 1 and names[1] not in (values.get("stages") or {}):
        raise RecipeError(f"{key}: no such stage; {nearest(names[1], values.get('stages') or {})}")
    for depth in range(1, len(names)):
        outer = _inside(values, names[:depth])
        if outer is not None and not isinstance(outer, Mapping):
            raise RecipeError(f"{key}: {'.'.join(names[:depth])} is {outer!r} and has no settings of its own")
    return _set(values, names, value)


def with_changes(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with changes by dotted key: mappings are merged, all else replaces what was there.

    Raises:
        RecipeError: a place that no recipe has.
    """
    changed = dict(values)
    for key, value in changes.items():
        there = _inside(changed, key.split("."))
        both = isinstance(value, Mapping) and isinstance(there, Mapping)
        changed = put(changed, key, merge(there, value) if both else value)
    return changed


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back into an equal one."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, allow_unicode=True, width=120)


def _base_path(path: Path, name: str) -> Path:
    """A file beside the recipe, or else one that comes with contralign."""
    if (path.parent / name).is_file():
        return path.parent / name
    packaged = (PACKAGED / name).with_suffix(".yaml")
    if packaged in packaged_recipes():
        return packaged
    raise RecipeError(f"{path}: base: {path.parent / name} does not exist, and no recipe of contralign is named {name}")


def read_values(path: Path, above: Sequence[Path] = ()) -> dict[str, Any]:
    """The values of a recipe file, merged into its base, which may have one itself, and not yet checked.

    Args:
        path: of the file.
        above: the files whose base it is.

    Raises:
        RecipeError: no YAML, no settings, a base that is not there or goes round in a circle, or an ablation.
    """
    values = _read(path)
    if ABLATION_KEY in values:
        raise RecipeError(
            f"{path}: an ablation (it has {ABLATION_KEY}:), which is many runs and no recipe: contralign ablate {path}"
        )
    if "base" not in values:
        return values
    name = values.pop("base")
    if not isinstance(name, str):
        raise RecipeError(f"{path}: base: wanted the name of a recipe file beside this one, got {name!r}")
    base_path = _base_path(path, name)
    chain = [each.resolve() for each in (*above, path)]
    if base_path.resolve() in chain:
        raise RecipeError(f"{path}: base: {base_path} is built on this recipe itself; take one of the two bases away")
    base = read_values(base_path, (*above, path))
    inherited = {key: value for key, value in base.items() if key not in ("name", "output_dir")}
    if values.get("model") == TINY_SHAPE:
        del values["model"]
        name = values.get("name") or path.stem
        return merge(rehearsed(inherited, list(_keys(values)), name), {**values, "name": name})
    return merge(inherited, values)


def _read(path: Path) -> dict[str, Any]:
    values = parse(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: wanted settings (key: value), got {type(values).__name__}")
    return values


def _keys(values: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """Dotted keys of all settings, at every depth."""
    for key, value in values.items():
        yield join(outer, key)
        if isinstance(value, Mapping):
            yield from _keys(value, join(outer, key))


def _set(values: Any, names: list[str], value: Any) -> dict[str, Any]:
    outer = dict(values or {})
    outer[names[0]] = value if len(names) == 1 else _set(outer.get(names[0]), names[1:], value)
    return outer


def _inside(values: Any, names: list[str]) -> Any:
    for name in names:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
