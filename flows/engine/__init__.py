"""Engine: Prefect while a recipe runs."""
