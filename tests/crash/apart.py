"""What a child does in its parent's place: obstore's runtime does not survive a fork, so no parent touches a store."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")


def apart(call: Callable[[], T]) -> T:
    """What `call` returns, of what MessagePack knows.

    Raises:
        RuntimeError: it raised something.
    """
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(msgspec.msgpack.encode(call()))
            status = 0
        except BaseException:  # noqa: BLE001 - it is for the parent to say so.
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        found = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"{call.__qualname__} failed")
    result: T = msgspec.msgpack.decode(found)
    return result
