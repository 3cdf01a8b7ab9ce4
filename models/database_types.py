"""What stores are handed: names for the driver's objects, so that nobody but `app.database` imports the driver.

Motor builds its classes at run time and types their methods loosely; what MongoDB answers is checked where documents
become Structs (`from_document`), not here.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Database: TypeAlias = Any
"""A Motor database: ``database.items`` is a collection."""

Collection: TypeAlias = Any
"""A Motor collection: ``find_one``, ``insert_one``, ``find_one_and_update``, ... are awaited."""

Session: TypeAlias = Any
"""A Motor client session; stores take one to read as part of somebody's snapshot or transaction."""

Document: TypeAlias = dict[str, Any]
"""A document as it is stored."""
