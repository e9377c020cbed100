# SPDX-License-Identifier: Apache-2.0
"""A WebSocket echo server, and a client that tries everything a tunnel could break.

websocket.py serve ADDRESS PORT [CHAIN-FILE KEY-FILE]
websocket.py talk URL ADDRESS PORT [CA-FILE]

Both are of asyncio: the threads of websockets.sync read and write one TLS socket at a time that the
other does, and lose a closing handshake now and then.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(peer):
    """Sends back what comes; `close N` closes with that code."""
    async for message in peer:
        if isinstance(message, str) and message.startswith("close "):
            await peer.close(int(message.split()[1]), "as asked")
            return
        await peer.send(message)


async def talk(url, address, port, ca=None):
    options = {"subprotocols": ["chat"], "max_size": None, "host": address, "port": int(port)}
    if ca:
        options["ssl"] = ssl.create_default_context(cafile=ca)

    async with connect(url, **options) as peer:
        assert peer.subprotocol == "chat", peer.subprotocol
        assert peer.response.status_code == 101
        assert peer.response.headers["server"] == "envoy"
        for message in ["text", "", "päter", b"binary\x00\xff", "x" * 125, "x" * 126, b"y" * 65536]:
            await peer.send(message)
            assert await asyncio.wait_for(peer.recv(), 10) == message
        # Larger than every buffer on the way, in both directions at once.
        large = bytes(range(256)) * 4096

        async def say():
            for _ in range(8):
                await peer.send(large)

        sender = asyncio.create_task(say())
        for _ in range(8):
            assert await asyncio.wait_for(peer.recv(), 30) == large
        await sender
        # One message in many frames.
        parts = ["one ", "two ", "three"]
        await peer.send(iter(parts))
        assert await asyncio.wait_for(peer.recv(), 10) == "".join(parts)
        for _ in range(3):
            await asyncio.wait_for(await peer.ping(), 10)
        await peer.send("close 4002")
        try:
            await asyncio.wait_for(peer.recv(), 10)
            raise AssertionError("open after the close")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4002, "as asked"), closed.rcvd
    peer = await connect(url, **options)
    await peer.close(4001, "enough")
    assert peer.close_code == 4001, peer.close_code
    print("all well")


async def serve_for_ever(address, port, *files):
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    options = {"ssl": context, "subprotocols": ["chat"], "max_size": None}
    async with serve(echo, address, int(port), **options) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run({"serve": serve_for_ever, "talk": talk}[sys.argv[1]](*sys.argv[2:]))
