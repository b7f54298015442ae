"""Report server: serves the reports on loopback, so that the UI can link to them.

In: a port, and PROTEGE_ROOT. Out: `/report/<fingerprint>/index.html`, and a list of the newest at
`/`. The UI cannot link to the store: a browser opens neither `s3://` nor, from a page, `file://`.
Nothing but reports is served.

    python -m flows.operate.report_server 4201
"""

import html
import re
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flows.campaign.summary import top1_rows
from flows.operate.hosts import allowed_hosts, is_allowed
from flows.operate.state import HOST
from infra.settings import Settings
from infra.store import open_store
from tasks.campaigns import Campaign, campaigns, newest_first
from tasks.report.format import percent

ADDRESS = re.compile(r"/(report/[0-9a-f]+/index\.html)")
MAX_LISTED_REPORTS = 100


class ReportHandler(BaseHTTPRequestHandler):
    """Answers a request for a report."""

    def do_GET(self) -> None:
        hosts = allowed_hosts([Settings().server.reports_url])
        if not is_allowed(self.headers.get("Host", ""), hosts):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "reports are not served by this name")
            return
        if self.path == "/":
            self._answer(list_of_reports().encode())
            return
        found = ADDRESS.fullmatch(self.path)
        try:
            if found is None:
                raise FileNotFoundError
            self._answer(open_store(Settings().root).read(found[1]))
        except FileNotFoundError:
            self.send_error(HTTPStatus.NOT_FOUND, "there is no such report in this root")

    def _answer(self, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def list_of_reports() -> str:
    """A page with the newest campaigns: title, name, date and accuracies."""
    found = newest_first(campaigns(open_store(Settings().root)))[:MAX_LISTED_REPORTS]
    listed = "\n".join(map(_item, found)) or "<li>no finished campaign yet</li>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>'
        f"<h1>Reports</h1><ul>{listed}</ul></html>"
    )


def _item(campaign: Campaign) -> str:
    title = campaign.options.get("report", {}).get("title") or campaign.id
    accuracies = [f"{model} {percent(top1)}" for model, top1 in top1_rows(campaign.summary)]
    about = ", ".join((campaign.id, campaign.finished_at, *accuracies))
    address = f"/report/{campaign.outputs['report'].fingerprint}/index.html"
    return f'<li><a href="{address}">{html.escape(title)}</a><br>{html.escape(about)}</li>'


def main() -> None:
    """Serve until the supervisor stops this process."""
    ThreadingHTTPServer((HOST, int(sys.argv[1])), ReportHandler).serve_forever()


if __name__ == "__main__":
    main()
