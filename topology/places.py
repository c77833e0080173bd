"""Where data lies: in a folder of this machine, or behind a URI that only its own client reads."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def local_folder(root: str) -> Path | None:
    """The folder that a path or a `file:` URI names; None for a URI of any other scheme."""
    if not _SCHEME.match(root):
        return Path(root)
    parts = urlsplit(root)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
