"""Names of experiments; a new table or figure is one more line here."""

import difflib

from stunet.errors import UserError
from stunet.experiments import (
    figure4,
    figure5,
    table2,
    table3,
    table3_cost,
    table4,
    table5,
    table6,
    table6_cost,
    table7,
    table7_cost,
    table8,
)
from stunet.experiments.recipe import Recipe

MODULES = (
    table2,
    table3,
    table3_cost,
    table4,
    table5,
    table6,
    table6_cost,
    table7,
    table7_cost,
    table8,
    figure4,
    figure5,
)
"""One file for each table or figure; its docstring says command, cost and expected result."""

RECIPES: dict[str, Recipe] = {module.RECIPE.name: module.RECIPE for module in MODULES}


def find_recipe(name: str) -> Recipe:
    """The experiment of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"There is no experiment {name!r}.{hint} Known are: {', '.join(RECIPES)}.")
    return RECIPES[name]
