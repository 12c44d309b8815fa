"""Recipes by name: those of the package, and a file of one's own."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from sparring.core.errors import SparringError
from sparring.core.registry import suggest
from sparring.recipes.recipe import Recipe

SUFFIX = ".toml"


def recipe_files() -> dict[str, Path]:
    """The packaged recipes' files by id, "PAPER/ITEM"."""
    root = Path(str(files("sparring.recipes").joinpath("papers")))
    return {f"{f.parent.name}/{f.stem}": f for f in sorted(root.glob(f"*/*{SUFFIX}"), key=_in_order)}


def _in_order(file: Path) -> tuple[str, str, int]:
    """Paper, tables before figures, by number."""
    number = "".join(c for c in file.stem if c.isdigit())
    return file.parent.name, {"t": "0"}.get(file.stem[0], file.stem[0]), int(number or 0)


def papers() -> list[str]:
    """The papers' names."""
    return list(dict.fromkeys(name.split("/")[0] for name in recipe_files()))


def load_recipe(name: str) -> Recipe:
    """The recipe "PAPER/ITEM", or that of FILE.toml. Raises SparringError, by file and field, for what is none."""
    known = recipe_files()
    if name in known:
        return read_recipe(known[name], name)
    if name.endswith(SUFFIX):
        path = Path(name)
        return read_recipe(path, f"{path.parent.resolve().name}/{path.stem}")
    raise SparringError(f"unknown recipe {name!r}{suggest(name, known)}")


def recipes_of(paper: str = "all") -> list[Recipe]:
    """All recipes, or a paper's. Raises SparringError for an unknown paper."""
    if paper != "all" and paper not in papers():
        raise SparringError(f"unknown paper {paper!r}{suggest(paper, ['all', *papers()])}")
    return [read_recipe(f, name) for name, f in recipe_files().items() if paper in ("all", name.split("/")[0])]


def read_recipe(file: Path, name: str) -> Recipe:
    """A recipe from its file. It names registered things only, never code to import."""
    try:
        text = file.read_text()
        content = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise SparringError(f"recipe {file} cannot be read ({error})") from None
    try:
        recipe = Recipe.model_validate({**content, "id": name})
        recipe.check()
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise SparringError(f"recipe {file}: {where}: {fault['msg']}") from None
    except SparringError as error:
        raise SparringError(f"recipe {file}: {error}") from None
    return recipe
