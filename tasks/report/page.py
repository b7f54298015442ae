"""Page: the sections of the report in their order, put into one frame.

In: the options and the story. Out: the text of the page. Everything goes through jinja2 with
autoescape, so a class called `<script>` is shown as that.

    html = render(ReportOptions(), story, on_progress)
"""

from importlib.resources import files

import jinja2
from markupsafe import Markup

from tasks.contract import OnProgress
from tasks.report import format as figures
from tasks.report.data import ReportData
from tasks.report.options import ReportOptions
from tasks.report.sections import (
    Section,
    augmentation,
    choice,
    classes,
    command,
    contrastive,
    errors,
    generations,
    headline,
    lineage,
    models,
    rejects,
    seeds,
    tags,
    times,
    training,
    use,
    warnings,
)
from tasks.report.story import Story

FRAME = "page.html.j2"
SECTIONS: tuple[Section, ...] = (
    headline.SECTION,
    seeds.SECTION,
    warnings.SECTION,
    models.SECTION,
    generations.SECTION,
    choice.SECTION,
    classes.SECTION,
    tags.SECTION,
    training.SECTION,
    contrastive.SECTION,
    augmentation.SECTION,
    errors.SECTION,
    times.SECTION,
    rejects.SECTION,
    lineage.SECTION,
    use.SECTION,
    command.SECTION,
)
FILTERS = (
    figures.percent,
    figures.points,
    figures.number,
    figures.thousands,
    figures.probability,
    figures.duration,
)


def render(options: ReportOptions, story: Story, on_progress: OnProgress) -> str:
    """The page, with the sections that apply to this campaign."""
    data, environment = ReportData(options, story), _environment()
    sections = [section for section in SECTIONS if section.applies(data)]
    bodies = []
    for number, section in enumerate(sections):
        on_progress(number, len(sections), section.title.lower())
        template = environment.get_template(f"sections/{section.name}.html.j2")
        context = {"title": section.title, "anchor": section.anchor, **section.facts(data)}
        bodies.append(Markup(template.render(context)))
    frame = {
        "title": options.title or story.recipe.replace("_", " ").capitalize(),
        "story": story,
        "sections": sections,
        "bodies": bodies,
    }
    page = environment.get_template(FRAME).render(frame)
    on_progress(len(sections), len(sections), "")
    return page


def _environment() -> jinja2.Environment:
    here = files("tasks.report")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: here.joinpath(name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for figure in FILTERS:
        environment.filters[figure.__name__] = figure
    return environment
