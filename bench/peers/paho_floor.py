"""The floor: a bare paho client with the required packages imported.

`import` prints the milliseconds that importing them takes in this process; `rss PORT` connects,
publishes once with its loop thread running and prints memory in MiB; `woken PORT TOPIC
BYTES DEVICE PACE [REQUEST ...]` publishes a ready-made payload of so many bytes, with TCP_NODELAY, at the end of each
reply of a tty that is asked these requests (hex) every PACE seconds, or of each PACE bytes that a TCP port pushes; it
prints when each publish() was called when it is ended.
"""

import json
import sys
import time

BEGIN = time.perf_counter()
if sys.argv[1] == "import":
    import hid  # noqa: F401 - required too, but loaded by the bridge only for a port that needs it
import paho.mqtt.client as paho  # noqa: E402
import serial  # noqa: E402
import yaml  # noqa: E402, F401

IMPORT_MS = (time.perf_counter() - BEGIN) * 1e3


def connected(port):
    import socket

    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect("127.0.0.1", port)
    client.loop_start()
    while not client.is_connected():
        time.sleep(0.01)
    return client


def rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def woken(port, topic, size, device, pace, requests):
    import signal

    client, payload, sent = connected(port), b"x" * size, []

    def end(*_):
        print(json.dumps({"sent": sent}), flush=True)
        client.disconnect()
        raise SystemExit

    def tell():
        sent.append(time.monotonic())
        client.publish(topic, payload, retain=True)

    signal.signal(signal.SIGTERM, end)
    (ask if requests else listen)(device, pace, [bytes.fromhex(one) for one in requests], tell)


def ask(device, pace, requests, tell):
    import os
    import select

    port = serial.Serial(device, 115200, timeout=0)
    fd = port.fileno()
    while True:
        due = time.monotonic() + pace
        for request in requests:
            os.write(fd, request)
            reply = b""
            while not reply.endswith(b"\r") and select.select([fd], [], [], 1.0)[0]:
                reply += os.read(fd, 4096)
            tell()
        time.sleep(max(0.0, due - time.monotonic()))


def listen(device, frame_size, _requests, tell):
    import socket

    host, _, number = device.rpartition(":")
    while True:
        try:
            sock = socket.create_connection((host, int(number)))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)  # the stick is still starting
    with sock:
        received = 0
        while data := sock.recv(4096):
            received += len(data)
            if received >= frame_size:
                received = 0
                tell()


if sys.argv[1] == "import":
    print(json.dumps({"ms": IMPORT_MS}))
elif sys.argv[1] == "rss":
    one = connected(int(sys.argv[2]))
    one.publish("floor/rss", b"{}", 1).wait_for_publish(5)
    time.sleep(0.5)
    print(json.dumps({"mib": rss()}))
    one.disconnect()
elif sys.argv[1] == "woken":
    woken(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5], float(sys.argv[6]), sys.argv[7:])
