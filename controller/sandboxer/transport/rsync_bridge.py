"""
The program rsync starts as its remote shell: it joins rsync's two pipes to a Unix socket of ours.

Run as a script (`python -I -S rsync_bridge.py SOCKET MACHINE COMMAND…`), with the standard library
only, so that it starts quickly. The first line it sends is the command as a JSON list; all other
bytes are rsync's own. `sandboxer.transport.ssh` is at the other end.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

CHUNK_BYTES = 64 * 1024


def _send(stream: socket.socket) -> None:
    try:
        while data := os.read(0, CHUNK_BYTES):
            stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        # The far end is gone; the receiving half sees the same and ends the program.
        return


def main(arguments: list[str]) -> None:
    """Join standard input and output to the socket until the far end closes."""
    path, _machine, *command = arguments
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(path)
        stream.sendall(json.dumps(command).encode() + b"\n")
        threading.Thread(target=_send, args=(stream,), daemon=True).start()
        while data := stream.recv(CHUNK_BYTES):
            while data:
                data = data[os.write(1, data) :]


if __name__ == "__main__":
    main(sys.argv[1:])
