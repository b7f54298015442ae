"""Operate: the local server, its worker and the pages of the reports; what is registered there.

state.py         what `protege up` remembers between commands: settings and processes
environment.py  the environment of Prefect's processes
supervisor.py       the process that starts server, worker and pages, and starts them again
pages.py        serves the reports on loopback
commands.py     up, down, status
catalog.py      every deployment; as text, prefect.yaml
    automations.py  what the server does by itself
register.py     puts the catalog into a server, as often as one likes
runs.py         submit, retry and find flow runs of the server
"""
