#!/usr/bin/env python3
"""An upstream that gives every name an address, over UDP.

    upstream.py ADDRESS PORT [--delay-ms N] [--dead]

The first label of a name may say more: `wait1500-…` is answered 1.5 s later, `ttl1-…` gets a TTL of 1 s.
SIGUSR1 makes it silent, SIGUSR2 alive again."""
import argparse
import heapq
import re
import select
import signal
import socket
import time

import wire

BUFFER_BYTES = 8 << 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--delay-ms", type=float, default=0)
    parser.add_argument("--dead", action="store_true")
    args = parser.parse_args()
    state = {"dead": args.dead}
    signal.signal(signal.SIGUSR1, lambda *_: state.update(dead=True))
    signal.signal(signal.SIGUSR2, lambda *_: state.update(dead=False))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.setblocking(False)
    sock.bind((args.address, args.port))
    waiting, count = [], 0
    print("ready", flush=True)
    while True:
        timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
        select.select([sock], [], [], timeout)
        for _ in range(256):
            try:
                message, peer = sock.recvfrom(4096)
            except BlockingIOError:
                break
            if state["dead"] or wire.question_end(message) is None:
                continue
            label = wire.first_label(message)
            told = dict(re.findall(r"(wait|ttl)(\d+)-", label)) if "-" in label else {}
            reply = wire.answer(message, (192, 0, 2, 1), int(told.get("ttl", 3600)))
            delay = float(told.get("wait", args.delay_ms)) / 1000
            if delay:
                count += 1
                heapq.heappush(waiting, (time.monotonic() + delay, count, reply, peer))
            else:
                sock.sendto(reply, peer)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, reply, peer = heapq.heappop(waiting)
            if not state["dead"]:
                sock.sendto(reply, peer)


if __name__ == "__main__":
    main()
