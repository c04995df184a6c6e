"""The floor of a command's way: a paho subscriber with TCP_NODELAY that writes a ready-made request to a tty.

`PORT TOPIC TTY REQUEST` (hex) runs until it is ended.
"""

import os
import socket
import sys
import tty

import paho.mqtt.client as paho

port, topic, path, request = int(sys.argv[1]), sys.argv[2], sys.argv[3], bytes.fromhex(sys.argv[4])
descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
tty.setraw(descriptor)
client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
client.on_connect = lambda *_: client.subscribe(topic, 1)
client.on_message = lambda *_: os.write(descriptor, request)
client.connect("127.0.0.1", port)
client.loop_forever()
