# SPDX-License-Identifier: Apache-2.0
"""A WebSocket echo server, and a client that tries everything a tunnel could break.

websocket.py serve ADDRESS PORT [CHAIN-FILE KEY-FILE]
websocket.py talk URL ADDRESS PORT [CA-FILE]
"""

import socket
import ssl
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve


def echo(peer):
    """Sends back what comes; `close N` closes with that code."""
    for message in peer:
        if isinstance(message, str) and message.startswith("close "):
            peer.close(int(message.split()[1]), "as asked")
            return
        peer.send(message)


def talk(url, address, port, ca=None):
    context = ssl.create_default_context(cafile=ca) if ca else None

    def open_socket():
        transport = socket.create_connection((address, int(port)), timeout=10)
        return connect(url, sock=transport, ssl=context, subprotocols=["chat"], max_size=None)

    with open_socket() as peer:
        assert peer.subprotocol == "chat", peer.subprotocol
        assert peer.response.status_code == 101
        assert peer.response.headers["server"] == "envoy"
        for message in ["text", "", "päter", b"binary\x00\xff", "x" * 125, "x" * 126, b"y" * 65536]:
            peer.send(message)
            assert peer.recv(timeout=10) == message
        # Larger than every buffer on the way, in both directions at once.
        large = bytes(range(256)) * 4096
        sender = threading.Thread(target=lambda: [peer.send(large) for _ in range(8)])
        sender.start()
        for _ in range(8):
            assert peer.recv(timeout=30) == large
        sender.join()
        # One message in many frames.
        parts = ["one ", "two ", "three"]
        peer.send(iter(parts))
        assert peer.recv(timeout=10) == "".join(parts)
        for _ in range(3):
            assert peer.ping().wait(10), "no pong"
        peer.send("close 4002")
        try:
            peer.recv(timeout=10)
            raise AssertionError("open after the close")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4002, "as asked"), closed.rcvd
    peer = open_socket()
    peer.close(4001, "enough")
    assert peer.close_code == 4001, peer.close_code
    print("all well")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        context = None
        if len(sys.argv) > 4:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(sys.argv[4], sys.argv[5])
        options = {"ssl": context, "subprotocols": ["chat"], "max_size": None}
        with serve(echo, sys.argv[2], int(sys.argv[3]), **options) as server:
            server.serve_forever()
    else:
        talk(*sys.argv[2:])
