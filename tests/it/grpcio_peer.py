# SPDX-License-Identifier: Apache-2.0
"""The official gRPC library on both sides of the gateway, without generated code: messages are
bytes.

grpcio_peer.py serve ADDRESS [CHAIN-FILE KEY-FILE]
grpcio_peer.py ask ADDRESS CA-FILE CASE...

The first serves until it is killed. The second runs cases, over cleartext with - for the file, and
prints what fails.
"""

import asyncio
import signal
import sys
import time

import grpc

SERVICE = "/test.Echo/"
LARGE = 8 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", LARGE + 1024),
    ("grpc.max_send_message_length", LARGE + 1024),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.ssl_target_name_override", "a.example"),
    ("grpc.default_authority", "a.example"),
]


class Echo(grpc.GenericRpcHandler):
    """All four kinds; what was cancelled can be asked for."""

    def __init__(self):
        self.cancelled = 0

    def service(self, details):
        name = details.method.removeprefix(SERVICE)
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "Wait": grpc.unary_unary_rpc_method_handler(self.wait),
            "WaitInStream": grpc.stream_stream_rpc_method_handler(self.wait_in_stream),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.told),
        }
        return handlers.get(name)

    async def unary(self, request, context):
        metadata = dict(context.invocation_metadata())
        back = [(key, value) for key, value in metadata.items() if key.startswith("x-ask")]
        await context.send_initial_metadata([("x-first", "1"), *back])
        context.set_trailing_metadata([("x-last", "2"), ("x-last-bin", b"\x00\xff")])
        await self.fail_if_asked(context)
        return request

    async def fail_if_asked(self, context):
        metadata = dict(context.invocation_metadata())
        if "x-fail" in metadata:
            code = next(c for c in grpc.StatusCode if c.name == metadata["x-fail"])
            await context.abort(code, "no luck: ü %41\nand a line")

    async def collect(self, requests, context):
        total = 0
        async for request in requests:
            total += len(request)
        return str(total).encode()

    async def count(self, request, context):
        for n in range(int(request)):
            yield str(n).encode()
        await self.fail_if_asked(context)

    async def talk(self, requests, context):
        async for request in requests:
            yield b"you said " + request

    async def wait(self, request, context):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"too late"

    async def wait_in_stream(self, requests, context):
        try:
            yield b"go on"
            await asyncio.sleep(60)
        except (asyncio.CancelledError, GeneratorExit):
            # The latter where the call ends before the message has left this process's hands.
            self.cancelled += 1
            raise

    async def told(self, request, context):
        return str(self.cancelled).encode()


async def serve(address, certificate=None, key=None):
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers([Echo()])
    if certificate is None:
        server.add_insecure_port(address)
    else:
        pair = (open(key, "rb").read(), open(certificate, "rb").read())
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    await server.start()
    await server.wait_for_termination()


class Client:
    def __init__(self, address, authority):
        self.address, self.authority = address, authority
        self.channel = self.connect()

    def connect(self):
        if self.authority == "-":
            return grpc.aio.insecure_channel(self.address, options=OPTIONS)
        roots = open(self.authority, "rb").read()
        credentials = grpc.ssl_channel_credentials(roots)
        return grpc.aio.secure_channel(self.address, credentials, options=OPTIONS)

    def unary(self, name="Unary", channel=None):
        return (channel or self.channel).unary_unary(SERVICE + name)

    async def cancelled(self):
        return int(await self.unary("Cancelled")(b""))


async def fails(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("it does not fail")


async def until(condition, patience=3.0):
    """How long it took until an asynchronous condition held."""
    begin = time.monotonic()
    while not await condition():
        assert time.monotonic() - begin < patience, "in vain"
        await asyncio.sleep(0.01)


async def case_unary(client):
    for n in range(200):
        message = str(n).encode()
        assert await client.unary()(message) == message
    assert await client.unary()(b"") == b""


async def case_client_streaming(client):
    call = client.channel.stream_unary(SERVICE + "Collect")
    assert await call(iter([b"x" * n for n in range(1000)])) == b"499500"
    assert await call(iter([])) == b"0"


async def case_server_streaming(client):
    call = client.channel.unary_stream(SERVICE + "Count")
    answers = [answer async for answer in call(b"1000")]
    assert answers == [str(n).encode() for n in range(1000)]
    assert [answer async for answer in call(b"0")] == []


async def case_bidirectional(client):
    """Each message is answered before the next is sent."""
    call = client.channel.stream_stream(SERVICE + "Talk")()
    for n in range(100):
        await call.write(str(n).encode())
        assert await call.read() == f"you said {n}".encode()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


async def case_deadline(client):
    before = await client.cancelled()
    begin = time.monotonic()
    error = await fails(client.unary("Wait")(b"", timeout=0.4))
    taken = time.monotonic() - begin
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert 0.3 < taken < 2, taken

    async def told():
        return await client.cancelled() > before

    await until(told)


async def case_cancellation(client):
    before = await client.cancelled()
    call = client.unary("Wait")(b"")
    stream = client.channel.stream_stream(SERVICE + "WaitInStream")()
    assert await stream.read() == b"go on"
    await asyncio.sleep(0.1)
    call.cancel()
    stream.cancel()

    async def told():
        return await client.cancelled() == before + 2

    # At once, not when something times out.
    await until(told, 1.0)


async def case_metadata(client):
    sent = [("x-ask", "a, b"), ("x-ask-bin", b"\x00\x01\xfe\xff"), ("x-ask-long", "v" * 5000)]
    call = client.unary()(b"hello", metadata=sent)
    assert await call == b"hello"
    first = dict(await call.initial_metadata())
    last = dict(await call.trailing_metadata())
    assert all(first[key] == value for key, value in sent), first
    assert first["x-first"] == "1" and last["x-last"] == "2", (first, last)
    assert last["x-last-bin"] == b"\x00\xff", last


async def case_large(client):
    message = bytes(n * 7 % 251 for n in range(1 << 16)) * (LARGE >> 16)
    assert await client.unary()(message) == message
    call = client.channel.stream_stream(SERVICE + "Talk")()
    for _ in range(3):
        await call.write(message)
        assert await call.read() == b"you said " + message
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def case_errors(client):
    for code in grpc.StatusCode:
        if code == grpc.StatusCode.OK:
            continue
        error = await fails(client.unary()(b"", metadata=[("x-fail", code.name)]))
        assert error.code() == code, (code, error)
        assert error.details() == "no luck: ü %41\nand a line", error
        assert dict(error.trailing_metadata())["x-last"] == "2", error
    error = await fails(client.unary("Nobody")(b""))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


async def case_a_thousand_streams(client):
    """All of them are open before the first one ends."""
    channels = [client.connect() for _ in range(10)]
    calls = [channel.stream_stream(SERVICE + "Talk")() for channel in channels for _ in range(100)]

    async def say(n, word):
        await calls[n].write(word)
        assert await calls[n].read() == b"you said " + word

    for turn in range(3):
        words = [f"{turn} of {n}".encode() for n in range(len(calls))]
        await asyncio.gather(*(say(n, word) for n, word in enumerate(words)))
    assert len(calls) == 1000
    for call in calls:
        await call.done_writing()
    assert {await call.code() for call in calls} == {grpc.StatusCode.OK}
    for channel in channels:
        await channel.close()


async def failure(client, service):
    return await fails(client.channel.unary_unary(f"/{service}/Unary")(b"hello"))


async def case_no_route(client):
    error = await failure(client, "test.Nowhere")
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


async def case_down(client):
    error = await failure(client, "test.Down")
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    assert "upstream connect error" in error.details(), error


async def case_too_slow(client):
    """The Mapping's own time-out."""
    error = await fails(client.channel.unary_unary("/test.Slow/Wait")(b""))
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert error.code() in codes, error
    assert "upstream request timeout" in error.details(), error


async def ask(address, authority, cases):
    failed = False
    for name in cases:
        client = Client(address, authority)
        try:
            await asyncio.wait_for(globals()["case_" + name](client), 30)
        except Exception as error:  # noqa: BLE001
            print(f"{name}: {type(error).__name__}: {error}")
            failed = True
        await client.channel.close()
    return 1 if failed else 0


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "serve":
        asyncio.run(serve(*arguments))
    else:
        signal.alarm(240)
        sys.exit(asyncio.run(ask(arguments[0], arguments[1], arguments[2:])))
