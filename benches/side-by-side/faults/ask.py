#!/usr/bin/env python3
"""Asks a server at a steady rate and says what came of it, as JSON.

    ask.py ADDRESS PORT RATE SECONDS TIMEOUT NAME…

The names are asked in turn; `{n}` in one is the count. Replies are stamped by the kernel, so that a client which is
scheduled late does not make the server look slow."""
import json
import os
import select
import socket
import struct
import sys
import time

import wire

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python has no name for it


def ask(address, port, rate, seconds, timeout, names):
    """Returns (milliseconds or None, response code or None, name) for every question."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.connect((address, port))
    sock.setblocking(False)
    total = max(1, int(rate * seconds))
    sent, open_, done = 0, {}, {}
    start = time.monotonic()
    while sent < total or (open_ and time.monotonic() - start < total / rate + timeout):
        now = time.monotonic()
        while sent < total and start + sent / rate <= now:
            name = names[sent % len(names)].replace("{n}", str(sent))
            open_[sent & 0xFFFF] = (sent, time.time_ns(), name)
            try:
                sock.send(wire.query(sent & 0xFFFF, name))
            except OSError:
                pass  # "connection refused" of an earlier one, while the server is not there
            sent += 1
        until = start + sent / rate if sent < total else start + total / rate + timeout
        select.select([sock], [], [], max(0, until - time.monotonic()))
        while True:
            try:
                message, stamps, _, _ = sock.recvmsg(4096, 64)
            except BlockingIOError:
                break
            except OSError:
                continue
            ident, rcode, answers = wire.outcome(message)
            if ident not in open_:
                continue
            number, at, name = open_.pop(ident)
            seconds_, nanos = struct.unpack("qq", stamps[0][2][:16])
            code = 0 if rcode == 0 and answers else rcode or -1
            done[number] = ((seconds_ * 10**9 + nanos - at) / 1e6, code, name)
    for number, _, name in open_.values():
        done[number] = (None, None, name)
    return [done[number] for number in sorted(done)]


def summary(rows):
    """What a measurement amounts to; times cover every reply, failures included."""
    times = sorted(ms for ms, _, _ in rows if ms is not None)
    return {
        "sent": len(rows),
        "answered": sum(code == 0 for _, code, _ in rows),
        "failed": sum(code not in (0, None) for _, code, _ in rows),
        "lost": sum(code is None for _, code, _ in rows),
        "p50_ms": times[len(times) // 2] if times else None,
        "p99_ms": times[len(times) * 99 // 100] if times else None,
        "worst_ms": times[-1] if times else None,
    }


if __name__ == "__main__":
    try:
        os.nice(-10)  # measured times must not hold the flood's turns on this CPU
    except OSError:
        pass
    a = sys.argv
    rows = ask(a[1], int(a[2]), float(a[3]), float(a[4]), float(a[5]), a[6:])
    print(json.dumps(summary(rows)))
