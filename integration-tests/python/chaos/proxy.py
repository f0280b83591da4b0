"""A proxy between a worker and its router that can lose what passes, or cut it off."""

import contextlib
import socket
import struct
import threading

from fleet import Worker

PASS, SWALLOW, RESET = "pass", "swallow", "reset"
CHUNK_BYTES = 1 << 16


class Proxy:
    """Passes bytes to a port of this machine; or accepts and swallows them; or resets every connection."""

    def __init__(self, port):
        self.target, self.mode, self.reset = port, PASS, 0
        self.pairs, self.lock = [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self):
        self.mode = SWALLOW

    def reset_all(self):
        """From now on nobody gets through; who is through already is cut off."""
        self.reset, self.mode = 0, RESET
        self._cut()

    def heal(self):
        """Connections that lost something can't be used again: only new ones pass."""
        was, self.mode = self.mode, PASS
        if was != PASS:
            self._cut()

    def end(self):
        self.listener.close()
        self._cut()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if self.mode == RESET:
                    self.reset += 1
                    abort(near)
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    abort(near)
                    continue
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self.pairs.append((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if self.mode == PASS:
                    sink.sendall(data)
        # In a black hole ends get lost too.
        while self.mode == SWALLOW and sink.fileno() >= 0:
            threading.Event().wait(0.05)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for one in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def abort(connection):
    """Closes with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Proxied:
    """A worker whose registration and queries go through proxies: `control` and `data`."""

    def __init__(self, fleet, name):
        old = fleet.workers.pop(name)
        old.end()
        port = free_port()
        self.control = Proxy(int(fleet.router.fleet_uri.rsplit(":", 1)[1]))
        self.data = Proxy(port)
        settings = f'advertise = "127.0.0.1:{self.data.port}"\n'
        routers = [f"grpc://127.0.0.1:{self.control.port}"]
        self.worker = Worker(old.folder, name, routers, fleet.key_file, settings, listen=f"127.0.0.1:{port}")
        fleet.workers[name] = self.worker

    def vanish(self):
        for proxy in (self.control, self.data):
            proxy.swallow()

    def heal(self):
        for proxy in (self.control, self.data):
            proxy.heal()

    def end(self):
        for proxy in (self.control, self.data):
            proxy.end()


@contextlib.contextmanager
def all_proxied(fleet):
    """The fleet's workers, each started anew behind proxies; by name."""
    made = {}
    try:
        for name in sorted(fleet.workers):
            made[name] = Proxied(fleet, name)
        fleet.wait_for(len(made))
        yield made
    finally:
        for one in made.values():
            one.end()
