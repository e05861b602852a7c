"""
Something in the middle that ends TLS on both sides, as a gateway does, and can do damage: what the comparison must notice.

Invariants: it runs in a thread, so that a test can wait for a program meanwhile; when it was closed nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.interop.programs.target import Target
from tests.support.certificates import certificate_pem

PIECE = 65536
"""Octets that are read at once."""


class Damage:
    """
    Replaces octets once, in one of several streams.

    @ivar done: whether it came to that.
    """

    def __init__(self, old: bytes, new: bytes) -> None:
        self._old = old
        self._new = new
        self.done = False

    def stream(self) -> Callable[[bytes], bytes]:
        """
        For one stream: gives what is to be passed on of each piece.  A part is held back while it may be the beginning of what is
        replaced.
        """
        held = b""

        def pass_on(octets: bytes) -> bytes:
            nonlocal held
            octets, held = held + octets, b""
            if self.done:
                return octets
            if self._old in octets:
                self.done = True
                return octets.replace(self._old, self._new, 1)
            for size in range(min(len(self._old) - 1, len(octets)), 0, -1):
                if octets.endswith(self._old[:size]):
                    held = octets[-size:]
                    return octets[:-size]
            return octets

        return pass_on


class Middle:
    """
    For a C{with}: passes connections on to a server.

    @ivar down: damage to what the server says, each where it is possible first.
    @ivar up: damage to what the client says, likewise.
    """

    def __init__(self, server: Target, *, down: Sequence[Damage] = (), up: Sequence[Damage] = ()) -> None:
        self.down = down
        self.up = up
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._listening = threading.Event()
        self._port = 0
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._folder = tempfile.TemporaryDirectory(prefix="middle-")
        self._pem = Path(self._folder.name, "pem")
        self._pem.write_bytes(certificate_pem())

    @property
    def target(self) -> Target:
        """
        Where a program goes to get there through the middle.
        """
        authority = None if self._server.authority is None else self._pem
        return dataclasses.replace(self._server, port=self._port, authority=authority)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        if self._error is not None:
            self._folder.cleanup()
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._folder.cleanup()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._listening.set()

    async def _serve(self) -> None:
        near = None
        if self._server.authority is not None:
            near = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            near.load_cert_chain(self._pem)
        connections: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._pass_on(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=near)
        self._port = listener.sockets[0].getsockname()[1]
        self._listening.set()
        await self._over.wait()
        listener.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        authority = self._server.authority
        far = None if authority is None else ssl.create_default_context(cafile=authority)
        try:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(self._server.host, self._server.port, ssl=far)
                try:
                    await asyncio.gather(self._copy(reader, far_writer, self.up), self._copy(far_reader, writer, self.down))
                finally:
                    await _close(far_writer)
        finally:
            await _close(writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, damages: Sequence[Damage]) -> None:
        streams = [damage.stream() for damage in damages]
        try:
            while octets := await reader.read(PIECE):
                for stream in streams:
                    octets = stream(octets)
                writer.write(octets)
                await writer.drain()
        finally:
            writer.close()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
