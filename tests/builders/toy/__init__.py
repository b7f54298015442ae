"""A fifth recipe, as small as one can be: two trainings and a score."""

from flows.recipes import Recipe

TOY = Recipe(
    name="toy",
    about="Two trainings and a score",
    module="tests.builders.toy",
    function="toy",
    options="Toy",
    result="student",
    compared_with="teacher",
)
