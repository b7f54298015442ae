"""WHEN: the recipes as Prefect flows, and the command line; the only home of Prefect."""
