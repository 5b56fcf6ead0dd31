"""Random paths, task files and settings: each is taken, or refused in one line, never with a traceback."""

import contextlib
import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import circuits_jax as cj
from circuits_jax import released
from circuits_jax.circuits.ablation.edits import parse_edit
from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.config import Config, from_dict, to_dict
from circuits_jax.data.programs.words import SPLITS
from circuits_jax.data.sources.python_trees import source_config
from circuits_jax.data.sources.rows import read_jsonl, rows_config
from circuits_jax.storage.errors import UserError
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import build_pairs, find_task, get_task
from circuits_jax.training.workdir import load_config as load_workdir_config
from circuits_jax.viewer.circuit_page.annotations import read_annotations
from tests.tasks.characters import Characters
from tests.tasks.test_files import PYTHON

pytestmark = pytest.mark.slow
DRAWS = {"paths": 4000, "tasks": 3000, "settings": 3000}
PIECES = (
    "a", "run", ".", "..", "/", "//", "~", "~x", " ", "  ", "*", "?", "[", "]", "[a-z]", "%", "%20", "#", "&",
    "'", '"', "\\", "\n", "\t", "\0", "\x1b", "é", "漢", "🐍", "\udce9", "\u202e", "x" * 300, "hf:", "gs:",
    "hf:a/b@", "file:", ".py", ".jsonl", ".pt", ".safetensors", "-", "--", "=", "$HOME", "config.json", ":",
    "checkpoints", ";", "|",
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**70, -(2**70), 0.0, 0.5, 1.0, -0.5, 1e-320, 1e308, float("nan"),
    float("inf"), -float("inf"), "", "a", "mean", "auto", "\0", "x" * 5000, [], [1], ["a"], [None], [[1]], {},
    {"a": 1}, (), (0.5, 0.2), ("attn_in",), b"x",
)  # fmt: skip


@contextlib.contextmanager
def only_user_errors(what):
    """Lets pass what is told in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError as error:
        assert len(str(error)) < 20_000, what
    except Exception as error:
        raise AssertionError(f"{what!r} gave {error!r}") from error


def draw_path(rng, folder):
    """A name of pieces; often below `folder`, sometimes that of a file with something in it."""
    name = "".join(PIECES[i] for i in rng.integers(0, len(PIECES), rng.integers(1, 6)))
    return str(folder / name.lstrip("/")) if rng.random() < 0.5 and "\0" not in name else name


def draw_bytes(rng, whole):
    """`whole` as it is, cut short, with changed bytes, doubled or replaced."""
    content = bytearray(whole)
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(0, len(content) + 1))
        kind = rng.integers(0, 5)
        if kind == 0:
            content = content[:at]
        elif kind == 1 and at < len(content):
            content[at] = rng.integers(0, 256)
        elif kind == 2:
            content[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 3:
            content[at:at] = rng.choice(
                [b'"', b"{", b"[", b"\0", b"\n", b"\xef\xbb\xbf", b"null", b"\\ud800", b"1e999"]
            )
        else:
            content = content + content
    return bytes(content)


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(17)
    data = Config().data
    readers = [
        cj.load, as_path, cj.load_task, get_task, load_circuit, read_annotations, released.load,
        released.load_any, lambda name: released.import_viz(name, "quotes"),
        lambda name: find_task("mine", [name]), lambda name: load_workdir_config(as_path(name)),
        lambda name: list(read_jsonl(name, "text")),
        lambda name: source_config(dataclasses.replace(data, roots=(name,))),
        lambda name: rows_config(dataclasses.replace(data, roots=(name,), source="jsonl"), read_jsonl),
    ]  # fmt: skip
    for _ in range(DRAWS["paths"]):
        path = draw_path(rng, tmp_path)
        if "://" in path or path.startswith("hf:"):
            continue  # nothing is asked of the network
        if rng.random() < 0.3:
            with contextlib.suppress(OSError, ValueError):
                inside = Path(path).is_relative_to(tmp_path) and ".." not in path
                if inside and not Path(path).exists():
                    Path(path).parent.mkdir(parents=True, exist_ok=True)
                    Path(path).write_bytes(
                        draw_bytes(rng, b'{"text": "x = 1", "format": "a", "version": 1}\n')
                    )
        read = readers[rng.integers(0, len(readers))]
        with only_user_errors(path):
            read(path)


def test_task_files(tmp_path):
    rng = np.random.default_rng(18)
    row = {"a": 'y = 1\nf(y, "one', "b": "y = 1\nf(y, 'one", "answer_a": '")', "answer_b": "')"}
    lines = [json.dumps(row | {"split": split, "a": row["a"] + more, "b": row["b"] + more}) for split in
             ("train", "heldout") for more in ("", " two")]  # fmt: skip
    texts = [
        "",
        "a",
        "\0",
        "$",
        "$$",
        "$n0",
        "«a|b»",
        "\ud83d",
        "\U0001f40d",
        "x" * 400,
        "\r\n",
        "\u2028",
        "\x1b[1m",
    ]
    for number in range(DRAWS["tasks"]):
        if rng.random() < 0.15:
            path, content = tmp_path / f"t{number}.py", draw_bytes(rng, PYTHON.encode())
        else:
            path, content = tmp_path / f"t{number}.jsonl", draw_bytes(rng, "\n".join(lines).encode())
            if rng.random() < 0.5:
                rows = [
                    row | {k: str(rng.choice(texts)) for k in row if rng.random() < 0.5} for _ in range(3)
                ]
                rows = [
                    r | {"split": s, "template": str(rng.choice(texts)) + s}
                    for r in rows
                    for s in ("train", "heldout")
                ]
                content = "\n".join(map(json.dumps, rows)).encode()
        path.write_bytes(content)
        with only_user_errors(content):
            task = cj.load_task(path)
            for split in SPLITS:
                with contextlib.suppress(UserError):
                    build_pairs(task, Characters(), split, 1, 0, int(rng.choice([8, 64, 256])))
        path.unlink()


def test_settings(tmp_path):
    rng = np.random.default_rng(19)
    sections = to_dict(Config())
    names = [(section, key) for section, values in sections.items() for key in values]
    for _ in range(DRAWS["settings"]):
        chosen = [names[i] for i in rng.integers(0, len(names), rng.integers(1, 4))]
        values = {name: VALUES[rng.integers(0, len(VALUES))] for name in chosen}
        whole = {section: dict(given) for section, given in sections.items()}
        for (section, key), value in values.items():
            whole[section][key] = value
        with only_user_errors(values):
            from_dict(Config, whole)
        with only_user_errors(values):
            cj.load_config(
                "quickstart", {f"{section}.{key}": value for (section, key), value in values.items()}
            )
        with contextlib.suppress(TypeError, ValueError):
            (tmp_path / "config.json").write_bytes(draw_bytes(rng, json.dumps(whole).encode()))
        with only_user_errors(values):
            load_workdir_config(tmp_path)
        with only_user_errors(values):
            parse_edit(
                "".join(rng.choice(["1.", "attn.v", ".12", ":mean", "=", "9e99", "nan", "\0", "é"], 4)),
                Config().model,
            )
