"""An app to try Forebay with: thumbnails, descriptions and contact sheets of photographs.

``forebay up imaging:app`` serves it; ``python -m imaging.demo`` asks it for real answers and checks them.
"""

from imaging.operations import app

__all__ = ["app"]
