"""The plan of the house: imports run one way, names are told apart, files and functions hold one idea."""

import ast
import collections
import pathlib
import re
import subprocess
import sys

import pytest

import circuits_jax
from circuits_jax.storage import filenames
from tests.source import texts

PACKAGE = pathlib.Path(circuits_jax.__file__).parent
# Each folder imports only what stands before it.
FLOORS = (
    "storage", "config", "model", "sparsity", "data", "tasks", "training", "circuits", "bridges", "released",
    "viewer", "configs", "runs", "commands",
)  # fmt: skip
# Within circuits/, too.
CIRCUIT_FLOORS = (
    "provenance", "circuit", "full_model", "masks", "graph", "export", "ablation", "pruning", "baselines",
    "audit", "readings", "stories", "planted", "rasp", "agreement", "attack",
)  # fmt: skip
# Doors and shims, which name what lies behind them.
DOORS = {"__init__", "__main__", "deprecated"}
MOST_LINES, MOST_PARAMETERS, LONGEST_FUNCTION = 400, 6, 100
# Functions that mirror a signature that is not ours.
MIRRORS = {("_rebuild_tensor", "unpickle")}


def modules() -> dict[str, ast.Module]:
    """{dotted name below the package: its tree}."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """Modules of ours that are imported, but for type checkers alone."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped and node.module:
            parts = node.module.split(".")
            if parts[0] == "circuits_jax":
                below = ".".join(parts[1:])
                for alias in node.names:
                    name = f"{below}.{alias.name}".strip(".")
                    known = name in MODULES or f"{name}.__init__" in MODULES
                    found.add(name if known else below)
    return found


@pytest.mark.parametrize("name", [n for n in MODULES if n.split(".")[0] not in DOORS])
def test_imports_run_one_way(name):
    own = name.split(".")
    for other in imports(MODULES[name]):
        theirs = other.split(".")
        assert theirs[0] in FLOORS, f"{name} imports {other}"
        assert FLOORS.index(theirs[0]) <= FLOORS.index(own[0]), f"{name} imports {other} upwards"
        if own[0] == theirs[0] == "circuits" and len(theirs) > 1 and own[1] != "__init__":
            assert CIRCUIT_FLOORS.index(theirs[1]) <= CIRCUIT_FLOORS.index(own[1]), f"{name} imports {other}"


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: {o for o in imports(tree) if o in MODULES} for name, tree in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name in done:
            return
        for other in graph[name]:
            visit(other, (*above, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_no_two_classes_have_one_name():
    homes = collections.defaultdict(list)
    for name, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_two_type_aliases_have_one_name():
    homes = collections.defaultdict(list)
    for name, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):  # no TypeVar
                for target in node.targets:
                    if isinstance(target, ast.Name) and re.fullmatch("[A-Z][a-z]+[A-Za-z]*", target.id):
                        homes[target.id].append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
    assert len(homes) > 20


# Files of the same names that are no workdir's: the authors' checkpoints, and the template of a page.
NAMESAKES = {("released", "config.json"), ("released", "tokenizer.model"), ("viewer", "audit.html")}


def test_no_other_place_knows_what_the_files_of_a_workdir_are_called():
    names = {value for name, value in vars(filenames).items() if name.isupper() and "." in value}
    assert {"config.json", "report.html", "audit.json"} <= names
    found = [
        (name, text)
        for name, tree in MODULES.items()
        if name != "storage.filenames"
        for text in texts(tree)
        for known in names
        if re.fullmatch(rf"(\S*/)?{re.escape(known)}", text)  # not in a sentence
        and (name.partition(".")[0], known) not in NAMESAKES
    ]
    assert found == []


def test_no_module_is_called_like_one_of_the_standard_library():
    own = {name.split(".")[-1] for name in MODULES if not name.startswith("commands.")} - DOORS
    assert own & set(sys.stdlib_module_names) == set()


def test_no_folder_has_two_of_one_name():
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        names = [p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
        assert len(names) == len(set(names)), folder


def test_files_are_short():
    long = {
        name: len((PACKAGE / f"{name.replace('.', '/')}.py").read_text("utf-8").splitlines())
        for name in MODULES
    }
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_functions_are_short_and_take_few_parameters():
    found = []
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef) or (node.name, name.split(".")[-1]) in MIRRORS:
                continue
            arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            given = [a for a in arguments if a not in ("self", "cls")]
            lines = node.end_lineno - node.lineno + 1
            if len(given) > MOST_PARAMETERS or lines > LONGEST_FUNCTION:
                found.append(f"{name}.{node.name}: {len(given)} parameters, {lines} lines")
    assert found == []


def test_names_of_files_become_paths_in_one_place():
    """By `as_path`, which knows home folders and buckets; a module's own place may be a Path."""
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            made = called in ("Path", "pathlib.Path") or called.endswith((".expanduser", ".absolute"))
            if made and name != "storage.paths":
                given = node.args[0] if node.args else None
                fixed = isinstance(given, ast.Constant) or ast.unparse(node) == "Path(__file__)"
                assert fixed, f"{name}: {ast.unparse(node)}"


CITATION = re.compile(r'docs/(\w+)\.md(?:,\s+(?:#\s+)?"([^"]+)")?')


def test_what_the_code_cites_is_there():
    cited = 0
    for path in PACKAGE.rglob("*.py"):
        for page, heading in CITATION.findall(path.read_text("utf-8")):
            text = (PACKAGE.parent / "docs" / f"{page}.md").read_text("utf-8")
            wanted = " ".join(heading.replace("#", "").split())
            assert not heading or f"## {wanted}\n" in text, f"{path} cites {wanted!r} of {page}.md"
            cited += 1
    assert cited > 50


def test_github_and_pre_commit_call_the_checks_that_ci_run_calls():
    def called(name: str) -> set[str]:
        lines = re.findall(r"\.ci/check ([a-z ]+)", (PACKAGE.parent / name).read_text("utf-8"))
        return {check for line in lines for check in line.split()}

    every = called(".ci/run")
    assert called(".github/workflows/checks.yml") == every - {"pythons"}  # a matrix there
    assert called(".pre-commit-config.yaml") <= every and len(every) > 5


def test_no_file_of_the_package_is_ignored_by_git():
    root = PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    command = [
        "git",
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--",
        "circuits_jax",
        "tests",
    ]
    ignored = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in ignored if name.endswith(".py")]


@pytest.mark.parametrize("name", MODULES)
def test_text_is_written_and_read_as_utf_8_whatever_the_locale_is(name):
    for node in ast.walk(MODULES[name]):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        named = any(keyword.arg == "encoding" for keyword in node.keywords) or "utf-8" in str(texts).lower()
        if called in ("read_text", "write_text") and isinstance(node.func, ast.Attribute):
            assert named or "ascii" in texts, f"{name}:{node.lineno} names no encoding"
        elif called == "open" and any(re.fullmatch("[rwax]t?", str(text)) for text in texts):
            assert named, f"{name}:{node.lineno} names no encoding"


def test_rows_of_tables_fit_a_screen():
    root = PACKAGE.parent
    pages = [*root.glob("*.md"), *(root / "docs").glob("*.md"), root / "launch/README.md"]
    pages += PACKAGE.rglob("*.md")
    rows = [
        (page.name, line)
        for page in pages
        for line in page.read_text("utf-8").splitlines()
        if line[:1] == "|"
    ]
    assert [row for row in rows if len(row[1]) > 150] == [] and len(rows) > 300
