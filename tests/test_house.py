"""The rules of the house that no other check holds: CONTRIBUTING.md says what they are for."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE, TESTS = ROOT / "src" / "contralign", ROOT / "tests"
MODULES = sorted(SOURCE.rglob("*.py"))
FOLDERS = sorted({module.parent for module in MODULES})
# The changelog and the log tell what was.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES.remove(ROOT / "docs" / "log.md")
FORBIDDEN = re.compile(r"(utils?|common|misc|helpers?)|legacy\w*|\w*v\d")
WITHOUT_A_ROOM = {
    "benchmarks": "tests of benchmarks/",
    "docs": "tests of docs/",
    "parity": "whole steps against slow loops and the released code",
    "worlds": "what tests share",
    "ranks": "scripts that tests launch on several processes",
    "plugins": "packages that tests install",
}
BUSY = {
    "data/sets": "the table of sets",
    "models/convert": "the functions of all formats",
    "models/mini_gemini": "registers the model with transformers' Auto classes",
}
"""Rooms whose `__init__` does more than say what the room is for and name what users import."""


def place(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_there_is_a_house():
    assert len(MODULES) > 200 and len(FOLDERS) > 30


def test_a_folder_holds_at_most_15_modules():
    counts = {place(folder): sum(module.name != "__init__.py" for module in folder.glob("*.py")) for folder in FOLDERS}
    assert {name: count for name, count in counts.items() if count > 15} == {}


def test_a_module_has_at_most_300_lines():
    assert {place(module): lines(module) for module in MODULES if lines(module) > 300} == {}


def test_training_stays_what_a_library_user_imports():
    assert sum(map(lines, (SOURCE / "training").glob("*.py"))) <= 1000


def test_a_module_is_named_after_its_idea():
    assert [place(module) for module in MODULES if FORBIDDEN.fullmatch(module.stem)] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=place)
def test_a_room_says_what_it_is_for_and_importing_it_costs_nothing(folder):
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    assert len(ast.get_docstring(tree) or "") > 20
    imported = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not any(isinstance(node, ast.Import) for node in tree.body)
    assert imported <= {"__future__", "typing", "contralign.public"} or place(folder) in BUSY


def test_tests_mirror_the_rooms():
    folders = {test.parent.relative_to(TESTS) for test in TESTS.rglob("*.py")}
    astray = {folder.as_posix() for folder in folders if not (SOURCE / folder).is_dir()}
    assert {folder for folder in astray if folder.split("/")[0] not in WITHOUT_A_ROOM} == set()
    assert {folder.split("/")[0] for folder in astray} == set(WITHOUT_A_ROOM), "an exception that nobody needs"


def test_no_test_imports_another():
    pattern = re.compile(r"^\s*(from|import) (\w+\.)*(test_\w+|conftest)\b", re.MULTILINE)
    assert [path.name for path in TESTS.rglob("*.py") if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_every_room_is_on_the_screen():
    screen = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[3]
    rooms = [folder.name for folder in FOLDERS if folder.parent == SOURCE]
    assert [name for name in rooms if f"{name}/" not in screen] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    named = {word for word in re.findall(r"`([\w./]+/[\w.]*\.py)\b", text) if "NAME" not in word}
    assert {word for word in named if not any((root / word).exists() for root in (ROOT, SOURCE))} == set()
    links = {link for link in re.findall(r"\]\(([^)#:]+)\)", text)}
    assert {link for link in links if not (page.parent / link).exists()} == set()


def test_contributing_answers_with_paths_that_are_there():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Where would I change")[1].split("\n## ")[0]
    named = {word for word in re.findall(r"`([\w./]+/[\w.]*)", table) if "NAME" not in word}
    assert len(named) > 25
    assert {word for word in named if not any((root / word).exists() for root in (ROOT, SOURCE))} == set()


def calls(method: str) -> list[tuple[str, dict[str, ast.expr]]]:
    """Place and keywords of every call of a method in the source."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                keywords = {word.arg: word.value for word in node.keywords if word.arg}
                found.append((f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}", keywords))
    return found


def test_no_picture_is_opened_without_a_list_of_formats():
    opened = [(place, keywords) for place, keywords in calls("open") if place.endswith(" Image.open")]
    assert len(opened) > 1
    assert [place for place, keywords in opened if "formats" not in keywords] == []


@pytest.mark.parametrize("method", ["from_pretrained", "from_config"])
def test_no_model_is_loaded_with_code_of_its_directory(method):
    loads = calls(method)
    assert len(loads) > 1
    trusted = [
        place
        for place, keywords in loads
        if not isinstance(keywords.get("trust_remote_code"), ast.Constant) or keywords["trust_remote_code"].value
    ]
    assert trusted == []
