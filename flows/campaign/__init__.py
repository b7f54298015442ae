"""Campaign: what every run of a recipe shares."""
