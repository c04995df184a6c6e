"""The floor: a bare paho client with the required packages imported.

`import` prints the milliseconds that importing them takes in this process; `rss PORT` connects,
publishes once with its loop thread running and prints memory in MiB; `latency PORT N BYTES SECONDS`
publishes N messages of so many bytes, so far apart, with TCP_NODELAY, and prints when each was sent.
"""

import json
import sys
import time

BEGIN = time.perf_counter()
if sys.argv[1] == "import":
    import hid  # noqa: F401 - required too, but loaded by the bridge only for a port that needs it
import paho.mqtt.client as paho  # noqa: E402
import serial  # noqa: E402, F401
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


if sys.argv[1] == "import":
    print(json.dumps({"ms": IMPORT_MS}))
elif sys.argv[1] == "rss":
    one = connected(int(sys.argv[2]))
    one.publish("floor/rss", b"{}", 1).wait_for_publish(5)
    time.sleep(0.5)
    print(json.dumps({"mib": rss()}))
    one.disconnect()
else:
    one = connected(int(sys.argv[2]))
    sent = []
    payload = "x" * int(sys.argv[4])
    for _ in range(int(sys.argv[3])):
        sent.append(time.monotonic())
        one.publish("floor/latency", payload)
        time.sleep(float(sys.argv[5]))
    time.sleep(0.3)
    print(json.dumps({"sent": sent}))
    one.disconnect()
