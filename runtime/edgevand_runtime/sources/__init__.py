"""Where frames come from: files, cameras, streams and the drawn conveyor, all behind one interface.

``open_source(uri)`` knows every kind (docs/sources.md); ``Source`` says what it gives.
"""

from edgevand_runtime.sources.base import Source, SourceStatus
from edgevand_runtime.sources.open import open_source
from edgevand_runtime.sources.redact import redact

__all__ = ["Source", "SourceStatus", "open_source", "redact"]
