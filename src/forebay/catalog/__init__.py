"""The catalog: the operations that exist now, as processors announce them and everybody follows them.

It is a compacted topic with one record for each operation, keyed by its name. A record carries every schema the
operation ever had, the one to write with first, so that whatever was written once can still be read.
"""

from forebay.catalog.entry import CatalogEntry
from forebay.catalog.follow import Catalog
from forebay.catalog.ledger import Ledger, conflict, lacking

__all__ = ["Catalog", "CatalogEntry", "Ledger", "conflict", "lacking"]
