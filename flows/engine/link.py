"""Link: the way from a flow run to its report."""

from prefect.artifacts import create_link_artifact

from flows.engine.server import await_server
from infra.settings import Settings
from infra.store import open_store
from tasks.contract import Output
from tasks.report import PAGE


def link_report(page: Output | None) -> str:
    """Link a report from the flow run, as soon as the server is there; returns the address."""
    if page is None:
        return ""
    settings = Settings()
    address = _address(page, settings)
    await_server(settings.server.wait_seconds)
    # Without a key: with one, the UI leads from the run to a list over all runs.
    create_link_artifact(address, link_text="Report", description=f"Report: {address}")
    return address


def _address(page: Output, settings: Settings) -> str:
    """Where a browser finds a report: at the pages of `protege up`, else where it lies."""
    # The pages serve one root; a report of another one can only be named.
    here = page.uri.startswith(f"{open_store(settings.root).uri}/")
    if settings.server.reports_url and here:
        return f"{settings.server.reports_url}/{page.stage}/{page.fingerprint}/{PAGE}"
    return f"{page.uri}/{PAGE}"
