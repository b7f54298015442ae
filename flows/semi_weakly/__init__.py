"""The recipe `semi-weakly`: `method.py` reads like the method's own algorithm, `options.py` is
its form, `presets.py` has whole settings, `plan.py` says what a campaign will amount to.

Nothing is imported here, so that options can be read without waiting for Prefect.
"""
