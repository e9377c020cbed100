# SPDX-License-Identifier: Apache-2.0
"""A WebSocket echo server, and a client that tries everything a tunnel could break.

websocket.py serve ADDRESS PORT
websocket.py talk URL [CA-FILE]
"""

import ssl
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve


def echo(socket):
    """Sends back what comes; `close N` closes with that code."""
    for message in socket:
        if isinstance(message, str) and message.startswith("close "):
            socket.close(int(message.split()[1]), "as asked")
            return
        socket.send(message)


def talk(url, ca=None):
    context = ssl.create_default_context(cafile=ca) if ca else None
    options = {"max_size": None, "ssl": context, "open_timeout": 10, "close_timeout": 10}
    with connect(url, subprotocols=["chat"], **options) as socket:
        assert socket.subprotocol == "chat", socket.subprotocol
        assert socket.response.status_code == 101
        assert socket.response.headers["server"] == "envoy"
        for message in ["text", "", "päter", b"binary\x00\xff", "x" * 125, "x" * 126, b"y" * 65536]:
            socket.send(message)
            assert socket.recv(timeout=10) == message
        # Larger than every buffer on the way, in both directions at once.
        large = bytes(range(256)) * 4096
        sender = threading.Thread(target=lambda: [socket.send(large) for _ in range(8)])
        sender.start()
        for _ in range(8):
            assert socket.recv(timeout=30) == large
        sender.join()
        # One message in many frames.
        parts = ["one ", "two ", "three"]
        socket.send(iter(parts))
        assert socket.recv(timeout=10) == "".join(parts)
        for _ in range(3):
            assert socket.ping().wait(10), "no pong"
        socket.send("close 4002")
        try:
            socket.recv(timeout=10)
            raise AssertionError("open after the close")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4002, "as asked"), closed.rcvd
    socket = connect(url, subprotocols=["chat"], **options)
    socket.close(4001, "enough")
    assert socket.close_code == 4001, socket.close_code
    print("all well")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        with serve(echo, sys.argv[2], int(sys.argv[3]), subprotocols=["chat"], max_size=None) as server:
            server.serve_forever()
    else:
        talk(*sys.argv[2:])
