"""
The client IDs of this host: a random one for each account, made once and kept.

Invariants: an ID says nothing of the host or its user; two accounts never have the same; the file is for its owner alone.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from mem_continuity.mailhost.index import replace_file

_FILE = "client-ids.json"


def find_client_id(data: Path, account: str) -> tuple[bytes, bytes]:
    """
    The ID of an account; made when there is none.

    @return: type and value for CLIENTID.
    @raise ValueError: the file of them cannot be read or written; the text is one line.
    """
    path = data / _FILE
    try:
        known = json.loads(path.read_bytes()) if path.exists() else {}
        if not isinstance(known, dict) or not all(isinstance(one, str) for one in known.values()):
            raise ValueError
        if account not in known:
            known[account] = str(uuid.uuid4())
            replace_file(path, json.dumps(known, indent=1).encode("utf-8") + b"\n")
        value = uuid.UUID(known[account])
    except OSError as error:
        raise ValueError(f"the client IDs {path} cannot be read or written: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"the client IDs {path} cannot be read; remove the file, and new ones are made") from None
    return b"UUID", str(value).encode("ascii")
