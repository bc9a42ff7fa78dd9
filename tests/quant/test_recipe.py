"""Recipes: what is refused, which rule decides, and that every built-in one fits every model."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError, UsageError
from quant.recipe import BUILT_IN, SECTIONS, assign, load_recipe, parse_recipe

HEAD = 'name = "mine"\n'
NAMES = [f"temporal:blk.{i}.{m}.weight" for i in range(4) for m in ("attn_q", "ffn_down")]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_recipes_say_something_for_every_kind_of_model(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert set(recipe.rules) == set(SECTIONS)
    assert recipe.about.endswith(".")


def test_the_first_rule_that_matches_decides() -> None:
    rules = """
[[moshi]]
match = '.*attn_q.*'
to = "q8_0"
layers = [0, -1]
[[moshi]]
match = '.*'
to = "q4_0"
"""
    found = assign(parse_recipe(HEAD + rules, Path("x")), "moshi", NAMES)
    kept = [name for name, one in found.items() if one.to == "q8_0"]
    assert kept == ["temporal:blk.0.attn_q.weight", "temporal:blk.3.attn_q.weight"]
    assert len(found) == len(NAMES)


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    rules = "[[moshi]]\nmatch = 'temporal:blk.0.atn_q.weight'\nto = \"q8_0\"\n"
    with pytest.raises(UsageError, match=r"matches no weight.*there is temporal:blk\.0\.attn_q"):
        assign(parse_recipe(HEAD + rules, Path("x")), "moshi", NAMES)
    assert assign(parse_recipe(HEAD + rules + "optional = true\n", Path("x")), "moshi", NAMES) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "not valid TOML"),
        ('nam = "x"', "unknown key nam; did you mean name"),
        ('about = "x"', "name is missing"),
        (HEAD + "seed = 'a'", "seed must be a int"),
        (HEAD + 'gates = "strict"', "known are transparent, compact"),
        (HEAD + "[[mosh]]\nmatch='a'\nto='f16'", "did you mean moshi"),
        (HEAD + "[[moshi]]\nmatch='('\nto='f16'", "no regular expression"),
        (HEAD + "[[moshi]]\nmatch='a'", r"moshi\[1\].to is missing"),
        (HEAD + "[[moshi]]\nmatch='a'\nto='f16'\nwhen='x'", r"unknown key moshi\[1\].when"),
        (HEAD + "[[moshi]]\nmatch='a'\nto='f16'\nlayers=['a']", "must be whole numbers"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_recipe(text, Path("mine.toml"))
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_what_is_neither_a_file_nor_built_in_is_refused() -> None:
    with pytest.raises(UsageError, match="neither a file nor one of float"):
        load_recipe("int5")
