"""Find: the campaign that a run goes on with, and whether anything is left to do in it.

In: a root, a recipe's name and its options. Out: the campaign, with its sources pinned. Pinning
lists every source, which takes long for many loose files, so one run does it once.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flows.campaign.options import RecipeOptions
from flows.campaign.places import check_places
from infra.errors import ProtegeError, name_options
from infra.store import Store, check_create_only
from tasks import campaigns
from tasks.campaigns import Campaign
from tasks.contract import digest_of, find_output
from tasks.evaluate import EvaluateOptions
from tasks.evaluate.choice import audit_digest
from tasks.options import Options
from tasks.shard import ShardOptions, pin
from tasks.shard.sources import Listing
from tasks.tags import TagOptions, read_mapping

NO_LISTINGS: Mapping[str, Listing] = MappingProxyType({})


def find_campaign(
    root: Store,
    recipe: str,
    options: Options,
    sources: Mapping[str, ShardOptions],
    repeats: str = "",
    listings: Mapping[str, Listing] = NO_LISTINGS,
) -> Campaign:
    """The campaign of these options and of the sources as they are now. Raises ProtegeError.

    A new one belongs to the line of the campaign that it `repeats`, if any. Sources that have just
    been listed are not listed again.
    """
    check_places(root, sources)
    check_create_only(root)
    snapshots = {}
    for role, source in sources.items():
        try:
            snapshots[role] = pin(root, source, listings.get(role))
        except ProtegeError as error:
            name_options(error, f"{role}.{{}}".format)
            raise ProtegeError(f"{role}.source: {error}") from None
    values = options.model_dump(mode="json")
    return campaigns.begin(root, recipe, values, snapshots, campaign_key(options), repeats)


def campaign_key(options: Options) -> str:
    """What the campaigns of these options have in common in their names."""
    lists = {name: digest for name, digest in _named_lists(options).items() if digest}
    return digest_of([options.content(), lists] if lists else options.content())[:8]


def _named_lists(options: Options) -> dict[str, str]:
    """The digests of what the lists say that options name by their places."""
    digests = {}
    for name, section in sections_of(options).items():
        try:
            if isinstance(section, TagOptions):
                digests[name] = read_mapping(section.table).digest
            elif isinstance(section, EvaluateOptions):
                digests[name] = audit_digest(section)
        except ProtegeError:
            # Of a campaign that is looked for by its name; a new one is refused before any work.
            digests[name] = "unreadable"
    return digests


def is_complete(campaign: Campaign) -> bool:
    """Whether the campaign is finished, and all that it made is still there."""
    return campaign.finished and all(
        find_output(output.store, output.manifest) for output in campaign.outputs.values()
    )


def sections_of(options: Options) -> dict[str, Any]:
    """The sections of a recipe's options, which are the parameters of its flow."""
    return {name: getattr(options, name) for name in type(options).model_fields}


def sources_of(options: Options) -> dict[str, ShardOptions]:
    """The sections that are image sources, by role; an optional one only where it is given."""
    optional = options.OPTIONAL_SOURCES if isinstance(options, RecipeOptions) else frozenset()
    return {
        role: section
        for role, section in sections_of(options).items()
        if isinstance(section, ShardOptions) and (section.source or role not in optional)
    }
