"""Opens the sockets as the shipped truename.socket does and becomes the daemon, which inherits them.

Usage: inherit.py ADDRESS PORT WORKERS COMMAND...
"""

import os
import socket
import sys

address, port, workers, *command = sys.argv[1:]
SOCKET_BUFFER_BYTES = 4 << 20
SO_RCVBUFFORCE = 33

sockets = []
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    for _ in range(int(workers)):
        listener = socket.socket(socket.AF_INET, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)
        listener.bind((address, int(port)))
        if kind == socket.SOCK_STREAM:
            listener.listen(1024)
        sockets.append(listener)

# The protocol's descriptors begin at 3; moved up first, so that none is overwritten on the way.
high = [os.dup2(listener.fileno(), 100 + at) for at, listener in enumerate(sockets)]
for at, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + at, inheritable=True)
    os.close(descriptor)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)))
os.execvp(command[0], command)
