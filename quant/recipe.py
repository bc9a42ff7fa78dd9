r"""Recipes: TOML files whose ordered rules say what each weight of a model becomes.

    name = "mine"
    about = "One line."
    gates = "compact"              # the margins that `edge measure` holds it to
    calibration = "required"       # or "optional", as it is without this line, or "none"
    speech = ["<sha256> <clip>"]   # what it was found on; never to be measured with
    [[moshi]]                      # rules for one kind of model; the first that matches decides
    match = 'temporal:blk\..*'      # a regular expression on the whole of a weight's name
    layers = [0, -1]               # optional: only these layers, negative ones from the end
    to = "q8_0"
    fallback = "f16"               # optional: where the weight cannot take that type
    optional = true                # optional: no error where nothing matches

Sections: mimi, moshi, and for models of other makers tts, asr, codec (ONNX) and llm (GGUF).
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, UsageError
from edge.suggest import nearest

BUILT_IN = ("float", "transparent", "int8", "compact", "int4", "tiny")
SECTIONS = ("mimi", "moshi", "tts", "asr", "codec", "llm")
GATES = ("transparent", "compact")
CALIBRATION = ("optional", "required", "none")

_HEAD = {"name": str, "about": str, "seed": int, "gates": str, "calibration": str,
         "speech": list}  # fmt: skip
_RULE = {"match": str, "to": str, "fallback": str, "layers": list, "optional": bool}
_LAYER = re.compile(r"(?:blk|layers?|blocks?|h)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a recipe. match: regex on the whole name. layers: empty for all."""

    match: str
    to: str
    fallback: str | None = None
    layers: tuple[int, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe. sha256: of its text. gates: name of the margins it is held to.

    speech: hash -> clip that it was found on.
    """

    name: str
    about: str
    seed: int
    gates: str
    rules: Mapping[str, tuple[Rule, ...]]
    sha256: str
    calibration: str = "optional"
    speech: Mapping[str, str] = field(default_factory=dict)

    def section(self, section: str) -> tuple[Rule, ...]:
        """The rules for a kind of model. Raises UsageError where there are none."""
        if section not in self.rules:
            there = ", ".join(self.rules) or "nothing"
            raise UsageError(f"recipe {self.name} has no [[{section}]] rules; it has {there}")
        return self.rules[section]


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a rule wants a weight to become, and what instead where that does not fit."""

    to: str
    fallback: str | None


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or a TOML file by path. Raises UsageError, ConfigError."""
    if name in BUILT_IN:
        path = Path(__file__).with_name("recipes") / f"{name}.toml"
    else:
        path = Path(name)
        if not path.is_file():
            raise UsageError(
                f"there is no recipe {name!r}: neither a file nor one of {', '.join(BUILT_IN)}"
            )
    try:
        return parse_recipe(path.read_text("utf-8"), path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def parse_recipe(text: str, path: Path) -> Recipe:
    """A recipe out of its text; path: for messages. Raises ConfigError, which names the place."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    _check_keys(document, {**_HEAD, **dict.fromkeys(SECTIONS, list)}, path, "")
    if not document.get("name"):
        raise ConfigError(f"{path}: name is missing; a recipe needs one")
    gates = document.get("gates", "compact")
    if gates not in GATES:
        raise ConfigError(f"{path}: gates is {gates!r}; known are {', '.join(GATES)}")
    calibration = document.get("calibration", "optional")
    if calibration not in CALIBRATION:
        known = ", ".join(CALIBRATION)
        raise ConfigError(f"{path}: calibration is {calibration!r}; known are {known}")
    rules = {
        section: tuple(
            _rule(table, path, f"{section}[{i}]") for i, table in enumerate(document[section], 1)
        )
        for section in SECTIONS
        if section in document
    }
    return Recipe(
        name=document["name"],
        about=document.get("about", ""),
        seed=document.get("seed", 0),
        gates=gates,
        rules=rules,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        calibration=calibration,
        speech=_speech(document.get("speech", []), path),
    )


def assign(recipe: Recipe, section: str, names: Sequence[str]) -> dict[str, Assigned]:
    """What each weight becomes by the first rule that matches; left out where none does.

    Raises UsageError for a rule that matches nothing: it is more often a typing error than meant.
    """
    rules = recipe.section(section)
    last_layer = max((layer for layer in map(layer_of, names) if layer is not None), default=-1)
    found: dict[str, Assigned] = {}
    matched = [False] * len(rules)
    for name in names:
        for i, rule in enumerate(rules):
            if re.fullmatch(rule.match, name) and _in_layers(rule, layer_of(name), last_layer):
                matched[i] = True
                found.setdefault(name, Assigned(rule.to, rule.fallback))
    for rule, did in zip(rules, matched, strict=True):
        if not did and not rule.optional:
            hint = nearest(rule.match, names) or next(iter(names), None)
            raise UsageError(
                f"recipe {recipe.name}: {rule.match!r} matches no weight of this model"
                f"{f' (there is {hint})' if hint else ''}; mend it, or say optional = true"
            )
    return found


def layer_of(name: str) -> int | None:
    """The layer that a weight belongs to, by its name; None where it names none."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def _speech(lines: list[Any], path: Path) -> dict[str, str]:
    pairs = [str(line).partition(" ")[::2] for line in lines]
    if any(not re.fullmatch("[0-9a-f]{64}", sha256) for sha256, _ in pairs):
        raise ConfigError(f'{path}: speech must be a list of "<sha256> <name of the clip>"')
    return dict(pairs)


def _in_layers(rule: Rule, layer: int | None, last: int) -> bool:
    if not rule.layers:
        return True
    return layer is not None and layer in {n if n >= 0 else last + 1 + n for n in rule.layers}


def _rule(table: Any, path: Path, at: str) -> Rule:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {at} must be a table; write [[{at.partition('[')[0]}]]")
    _check_keys(table, _RULE, path, f"{at}.")
    for key in ("match", "to"):
        if key not in table:
            raise ConfigError(f"{path}: {at}.{key} is missing")
    try:
        re.compile(table["match"])
    except re.error as error:
        raise ConfigError(f"{path}: {at}.match is no regular expression: {error}") from error
    layers = table.get("layers", [])
    if not all(type(layer) is int for layer in layers):
        raise ConfigError(f"{path}: {at}.layers must be whole numbers, such as [0, -1]")
    return Rule(
        table["match"], table["to"], table.get("fallback"), tuple(layers),
        table.get("optional", False),
    )  # fmt: skip


def _check_keys(table: Mapping[str, Any], known: Mapping[str, type], path: Path, at: str) -> None:
    for key, value in table.items():
        if key not in known:
            near = nearest(key, list(known))
            hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{path}: unknown key {at}{key}; {hint}")
        if type(value) is not known[key]:
            want = known[key].__name__
            raise ConfigError(f"{path}: {at}{key} must be a {want}, not {type(value).__name__}")
