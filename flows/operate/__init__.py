"""Operate: the local server of `protege up`, and what is registered there.

lifecycle.py      up, down, status
supervisor.py     the process that starts the server, the worker and the report server
state.py          what stays between commands: configuration and processes
environment.py    the environment of Prefect's processes
report_server.py  serves the reports on loopback
prefect_server.py Prefect's server, for requests that name this machine
hosts.py          the names under which a browser may ask
pages.py          the security policy of the UI's pages, and their password
catalog.py        every deployment; as text, prefect.yaml
register.py       registers the catalog with a server
automations.py    what the server does by itself
runs.py           submit, retry and find flow runs of the server
"""
