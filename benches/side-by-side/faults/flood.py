#!/usr/bin/env python3
"""Sends a bounded flood to one UDP port and reads no answer.

    flood.py ADDRESS PORT garbage|names RATE SECONDS"""
import random
import socket
import sys
import time

import wire

# Packets are sent in bursts of this length: shorter ones cost more sleeping than sending.
BURST_SECONDS = 0.002


def garbage(rng):
    """Datagrams that are no good questions: noise, cut questions, lying counts, loops of pointers."""
    good = wire.query(7, "www.example.net")
    made = [rng.randbytes(rng.randrange(1, 200)) for _ in range(256)]
    made += [good[: rng.randrange(1, len(good))] for _ in range(256)]
    made += [good[:4] + rng.randbytes(8) + good[12:] for _ in range(256)]
    made += [good[:12] + b"\xc0\x0c" + good[12:] for _ in range(64)]
    # Responses, which must meet silence.
    made += [good[:2] + b"\x81\x80" + good[4:] for _ in range(64)]
    return made


def main():
    address, port, kind, rate, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((address, port))
    sock.setblocking(False)
    rng = random.Random(1)
    packets = garbage(rng)
    # A prefix of its own, so that no two floods of a run ask for the same names.
    prefix = f"x{time.monotonic_ns()}"
    start, sent = time.monotonic(), 0
    total = int(rate * seconds)
    while sent < total:
        due = min(total, int((time.monotonic() - start) * rate) + 1)
        for n in range(sent, due):
            message = packets[n % len(packets)] if kind == "garbage" else wire.query(n & 0xFFFF, f"{prefix}-{n}.pkg.example.net")
            try:
                sock.send(message)
            except OSError:
                pass  # a full queue, or an ICMP error of a server that has gone: the flood goes on
        sent = due
        time.sleep(BURST_SECONDS)
    print(f'{{"sent": {sent}, "seconds": {time.monotonic() - start:.3f}}}')


if __name__ == "__main__":
    main()
