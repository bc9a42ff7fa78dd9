"""The house holds: sizes, one owner for each library, light imports, clean files."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge", "runtime", "export", "quant", "apps")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# The modules that may import a heavy library, by statement or by name (importlib); import-linter
# sees only the statements. A package stands for all of its modules.
OWNERS = {
    "PySide6": {"apps.tray"},
    "ctranslate2": {"runtime.backends.ct2"},
    "distributed": {"quant.cluster", "quant.cluster_worker"},
    "hibari": {"runtime.models.tts"},
    "llama_cpp": {"runtime.backends.llama", "runtime.backends.llama_library"},
    "onnxruntime": {"runtime.backends.ort"},
    "pesq": {"quant.quality.perceptual"},
    "pystoi": {"quant.quality.perceptual"},
    "pywebrtc_audio": {"runtime.sound.echo"},
    "sounddevice": {"runtime.sound.card.portaudio"},
    "soundfile": {"edge.wav"},
    "soxr": {"edge.resample"},
    "torch": {"export"},
    "visqol": {"quant.quality.perceptual"},
}
HEAVY = (*OWNERS, "numpy", "rich", "packaging", "platformdirs")


def sources() -> list[Path]:
    """Every Python file of the project."""
    folders = (*PACKAGES, "tests", "scripts")
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[str]:
    """Top-level names a file imports, by `import`, `from` or import_module("...")."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            first = node.args[0]
            if called == "import_module" and isinstance(first, ast.Constant):
                yield str(first.value).partition(".")[0]


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh interpreter after it has run some code, less those before."""
    script = (
        "import sys, json; before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_files_are_short_enough_to_read() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short_enough_to_read() -> None:
    long = [
        f"{module_name(path)}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert long == []


def test_each_heavy_library_is_imported_by_its_owner_alone() -> None:
    strangers = [
        f"{name} imports {library}"
        for path in sources()
        if (name := module_name(path)).partition(".")[0] in PACKAGES
        for library in set(imported(path)) & OWNERS.keys()
        if not any(name == owner or name.startswith(f"{owner}.") for owner in OWNERS[library])
    ]
    assert strangers == []


def test_our_package_names_belong_to_nobody_else() -> None:
    owners = importlib.metadata.packages_distributions()
    claimed = {name: set(owners.get(name, ())) - {"edgevoice"} for name in PACKAGES}
    assert claimed == {name: set() for name in PACKAGES}


@pytest.mark.parametrize("module", ["edge.frame", "runtime.loop"])
def test_the_core_needs_numpy_and_nothing_else(module: str) -> None:
    foreign = loaded_by(f"import {module}") - set(sys.stdlib_module_names) - set(PACKAGES)
    assert {name for name in foreign if not name.startswith("_")} <= {"numpy"}


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    began_s = time.perf_counter()
    names = loaded_by("from apps.cli.main import run; run(['--help'])")
    print(f"`edge --help` in a fresh interpreter: {time.perf_counter() - began_s:.3f} s")
    assert "click" in names
    assert names.isdisjoint(HEAVY)


def test_files_of_the_repository_name_no_registry_and_no_place_on_one_machine() -> None:
    # Written in pieces, or this file would be the one that is found.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "npm" + "js.org", "deb." + "debian.org"]
    forbidden = [word.encode() for word in (*hosts, f"{ROOT}/")]
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in committed_files()
        for word in forbidden
        if word in path.read_bytes()
    ]
    assert found == []


def committed_files() -> list[Path]:
    """Files that are, or would be, committed; without git, those a checkout is known to have."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True, check=True, cwd=ROOT,
        ).stdout  # fmt: skip
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = [*sources(), *ROOT.glob("*.toml"), *ROOT.glob("*.md"), *ROOT.glob("constraints/*")]
    return [path for path in paths if path.is_file()]
