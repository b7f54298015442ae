"""Options of the stage `report`."""

from pydantic import Field

from tasks.options import Options


class ReportOptions(Options):
    """What the page shows."""

    title: str = ""
    """Heading of the page; empty is the name of the recipe."""
    images_per_strip: int = Field(12, ge=1, le=100)
    """Images side by side: the best of a class, and as many around ranks K/4, K/2 and K."""
    max_classes: int = Field(50, ge=1, le=1000)
    """Classes shown with pictures; where there are more, those most in need of a look go first."""
