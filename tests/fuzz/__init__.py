"""Fuzz: damaged and odd inputs, until the time is up.

    make fuzz MINUTES=5 SEED=1
    python -m tests.fuzz --seed 1 --case 4711        one case again, with its traceback

Each case is an image, a source (tar, Parquet, list) or a file of weights, made from the seed and
the number of the case. It may be refused, but nothing may crash, hang, fill the memory, or give
other pixels than Pillow. Prints one line of JSON; what failed lies in the folder that it names.
"""
