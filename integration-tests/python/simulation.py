"""A simulated Databricks workspace (`flightpath emulate databricks`) and servers in front of it."""

import hashlib
import json
import re
import subprocess
import threading
import urllib.request

import adbc_driver_flightsql.dbapi as flightsql

from conftest import BINARY, START_SECONDS

WAREHOUSE = {"id": "simulated", "start_delay_ms": 0, "base_latency_ms": 0, "running": True}


class Simulation:
    """Catalog `main` over `data`; principals are `name: token`. `monitors` see everybody's query history."""

    def __init__(self, folder, data, principals, tables=None, settings=None, warehouse=None, groups=None, monitors=()):
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "catalogs": [{"name": "main", "data": [str(data)]}],
            "principals": [
                {"name": name, "tokens": [token], "groups": (groups or {}).get(name, []), "monitor": name in monitors}
                for name, token in principals.items()
            ],
            "warehouses": [{**WAREHOUSE, **(warehouse or {})}],
            "tables": tables or {},
            "settings": settings or {},
        }
        path = folder / "simulation.json"
        path.write_text(json.dumps(config))
        self.stderr = open(folder / "simulation.log", "w+b")
        command = [BINARY, "emulate", "databricks", "--config", str(path), "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.stderr, text=True)
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        found = re.search(r"listening on (http://\S+)", line)
        assert found and "simulated Databricks (not the real one)" in line, line
        self.url = found[1]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"{}")

    def counters(self):
        return self.call("GET", "/simulation/counters")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.stderr.close()


def settings(simulation, principals, data, **databricks):
    """A server's settings in front of the simulation, each principal with its own token."""
    tokens = "".join(
        f'[[auth.tokens]]\nprincipal = "{name}"\ntoken_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
        for name, token in principals.items()
    )
    own = {"host": simulation.url, "warehouse_id": "simulated", "catalogs": ["main"], "local_roots": [str(data)], **databricks}
    return tokens + "[databricks]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in own.items())


def connect(server, token, **headers):
    kwargs = {"adbc.flight.sql.authorization_header": f"Bearer {token}"}
    for name, value in headers.items():
        kwargs[f"adbc.flight.sql.rpc.call_header.flightpath-{name}"] = value
    return flightsql.connect(server.uri, db_kwargs=kwargs, autocommit=True)
