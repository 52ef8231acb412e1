"""What the source never does, whoever may have written it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for room in ("jobs", "queuectl_project") for path in (ROOT / room).rglob("*.py")]
PAGES = [
    path
    for room in ("jobs", "queuectl_project", "templates")
    for kind in ("html", "css", "js", "svg")
    for path in (ROOT / room).rglob(f"*.{kind}")
]
EVALUATES = {"eval", "exec", "compile", "__import__", "literal_eval"}
STARTS = {"os.system", "os.popen", "os.execv", "os.execve", "os.execvp", "os.spawnv"}
PROCESSES = {"Popen", "run", "call", "check_call", "check_output", "create_subprocess_shell"}
TRUSTS = {
    "mark_safe",
    "SafeString",
    "SafeData",
    "csrf_exempt",
    "RawSQL",
    "pickle",
    "shelve",
    "yaml",
    "dill",
}
SQL = {"execute", "executemany", "executescript", "raw", "extra"}
EXCEPT = {
    ("jobs/worker/wire.py", "marshal"): "between a worker's own processes; it makes no objects",
    ("jobs/transfer/bulk.py", "execute"): "names of tables and columns, which are the models' own",
    ("jobs/transfer/bulk.py", "executemany"): "the same",
    ("jobs/transfer/spool.py", "execute"): "the same, in a file of its own",
}


def offences(path: Path) -> Iterator[tuple[str, int, str]]:
    name = str(path.relative_to(ROOT))
    for node in ast.walk(ast.parse(path.read_text(), filename=name)):
        for word in _offences(node, in_dialect=name.startswith("jobs/dialect/")):
            if (name, word) not in EXCEPT:
                yield name, getattr(node, "lineno", 0), word


def _offences(node: ast.AST, *, in_dialect: bool) -> Iterator[str]:
    match node:
        case ast.Name(id=word) if word in EVALUATES | TRUSTS:
            yield word
        case ast.Attribute(attr=word) if ast.unparse(node) in STARTS or word in TRUSTS:
            yield word
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            words = {alias.name.partition(".")[0] for alias in names}
            words.add((getattr(node, "module", None) or "").partition(".")[0])
            yield from words & (TRUSTS | {"marshal"})
        case ast.Call(func=ast.Attribute(attr=word), args=[first, *_]) if (
            word in SQL and not in_dialect
        ):
            if not isinstance(first, ast.Constant):
                yield word
        case ast.Call(keywords=options) if ast.unparse(node.func).rpartition(".")[2] in PROCESSES:
            yield from ("shell=" for option in options if option.arg == "shell")


def test_no_source_evaluates_unpickles_or_trusts_what_it_is_given() -> None:
    assert len(SOURCES) > 100
    assert [found for path in SOURCES for found in offences(path)] == []


def test_an_offence_would_be_found() -> None:
    for text in (
        "eval(x)", "os.system(x)", "import pickle", "from yaml import load", "html.mark_safe(x)",
        "cursor.execute(f'SELECT {x}')", "rows.extra(x)", "Popen(x, shell=True)", "@csrf_exempt\ndef f(): 0",
    ):  # fmt: skip
        assert [
            w for node in ast.walk(ast.parse(text)) for w in _offences(node, in_dialect=False)
        ], text


def test_no_page_loads_from_elsewhere_or_has_anything_inline() -> None:
    assert len(PAGES) > 20
    for path in PAGES:
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.findall(r"(?:https?:)?//[\w-]+\.|@import|javascript:", text), path
        assert not re.findall(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text), path
        assert not re.findall(r"\|\s*safe\b|autoescape off", text), path
