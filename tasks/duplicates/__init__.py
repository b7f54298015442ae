"""Near-duplicates: files that show the same picture, stored anew or resized."""
