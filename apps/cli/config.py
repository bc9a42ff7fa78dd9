"""`edge config`: see the settings, where each comes from, and change them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import click

from apps.cli.options import json_option
from edge.errors import ConfigError

_ORIGIN_COLUMN = 44


@click.group()
def config() -> None:
    """Show the settings and where each comes from; change them."""


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@json_option
def show(origin: bool, as_json: bool) -> None:
    """Show the settings that are in force, as TOML."""
    import tomli_w

    from edge.config import load_config, settings

    loaded = load_config()
    values = dataclasses.asdict(loaded.config)
    if as_json:
        click.echo(json.dumps({"settings": values, "origins": dict(loaded.origins)}))
        return
    table = ""
    for name, one in settings().items():
        if one.table != table:
            click.echo(f"[{one.table}]" if not table else f"\n[{one.table}]")
            table = one.table
        written = tomli_w.dumps({one.key: values[one.table][one.key]}).rstrip("\n")
        if origin:
            # Behind a value of several lines too, so that what is shown stays valid TOML.
            written = f"{written:<{_ORIGIN_COLUMN}}  # {loaded.origins[name]}"
        click.echo(written)


@config.command()
@json_option
def path(as_json: bool) -> None:
    """Show where your own config.toml is, or would be."""
    from edge.paths import system_config_file, user_config_file

    user, system = user_config_file(), system_config_file()
    if not as_json:
        click.echo(user)
        return
    places = {"user": user, "system": system}
    facts = {name: {"path": str(at), "exists": at.is_file()} for name, at in places.items()}
    click.echo(json.dumps(facts))


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("value")
@json_option
def set_value(key: str, value: str, as_json: bool) -> None:
    """Set KEY, such as talk.voice, to VALUE in your config.toml.

    Everything else in the file stays. A list is written with commas: stop,quiet
    """
    from apps.cli.config_text import set_in_text
    from edge.config import check_toml, parse_value, settings
    from edge.paths import user_config_file

    parsed = parse_value(key, value, "edge config set")
    one, file = settings()[key], user_config_file()
    before = _read(file)
    _check_before(before, file, one.table)
    after = set_in_text(before, one.table, one.key, parsed)
    check_toml(after, str(file))
    _write(file, after)
    if as_json:
        click.echo(json.dumps({"key": key, "value": parsed, "path": str(file)}))
    else:
        click.echo(f"{key} is set in {file}")
    if one.variable in os.environ:
        click.echo(f"but {one.variable} is set too, and wins until it is unset", err=True)


@config.command()
def edit() -> None:
    """Open your config.toml in $EDITOR; it is checked before it takes the old one's place."""
    from apps.cli.config_text import template
    from edge.config import check_toml
    from edge.paths import user_config_file

    file = user_config_file()
    text = _read(file) or template()
    while True:
        edited = click.edit(text, extension=".toml")
        if edited is None:
            click.echo(f"nothing changed in {file}")
            return
        try:
            check_toml(edited, str(file))
        except ConfigError as error:
            click.echo(f"not saved: {error}", err=True)
            if not click.confirm("Edit it again?", default=True, err=True):
                raise
            text = edited
        else:
            break
    _write(file, edited)
    click.echo(f"saved {file}")


def _check_before(text: str, file: Path, table: str) -> None:
    """Refuse to change what cannot be read, for its content must not be lost.

    Values that are wrong are no reason: this may be the command that corrects one.
    """
    import tomllib

    from edge.config import check_toml

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file} is not valid TOML: {error}; correct it with: edge config edit"
        ) from error
    if not isinstance(document.get(table, {}), dict):
        check_toml(text, str(file))  # raises: it says what a table looks like


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def _write(file: Path, text: str) -> None:
    from edge.atomic import write_text
    from edge.paths import make_dir

    make_dir(file.parent)
    write_text(file, text)
