"""TLS with clients' certificates: who shows none that the server's authority signed isn't let in."""

import os
import subprocess

import pyarrow.flight as flight
import pytest

from conftest import BINARY
from test_faults import statement

TOKEN = "a-token-of-the-dashboards"


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two authorities; a server's certificate by the first, and a client's by each."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ours", "another"):
        key, certificate = folder / f"{authority}.key", folder / f"{authority}.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={authority}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", certificate)
    for name, authority, usage in (("server", "ours", "serverAuth"), ("client", "ours", "clientAuth"), ("stranger", "another", "clientAuth")):
        request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", folder / f"{authority}.pem", "-CAkey", folder / f"{authority}.key", "-CAcreateserial",
                "-days", "2", "-extfile", extensions, "-out", folder / f"{name}.pem")
    return folder


def settings(certificates, **more):
    import hashlib

    tls = {"certificate": certificates / "server.pem", "key": certificates / "server.key", "client_ca": certificates / "ours.pem", **more}
    lines = "".join(f'{name} = "{path}"\n' for name, path in tls.items())
    return f'[[auth.tokens]]\nprincipal = "dashboards"\ntoken_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"\n[tls]\n{lines}'


def ask(server, certificates, shows, token=TOKEN):
    uri = server.uri.replace("127.0.0.1", "localhost")
    shown = {}
    if shows:
        shown = {"cert_chain": (certificates / f"{shows}.pem").read_text(), "private_key": (certificates / f"{shows}.key").read_text()}
    with flight.FlightClient(uri, tls_root_certs=(certificates / "ours.pem").read_text(), **shown) as client:
        headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
        options = flight.FlightCallOptions(headers=headers, timeout=20)
        info = client.get_flight_info(statement("SELECT 1 AS x"), options)
        return client.do_get(info.endpoints[0].ticket, options).read_all().to_pylist()


def test_a_client_shows_its_certificate_and_says_who_it_is(server, tpch_dir, certificates):
    one = server("--data", tpch_dir, settings=settings(certificates))
    assert ask(one, certificates, "client") == [{"x": 1}]
    # The certificate lets a client in; who asks is for the token to tell.
    with pytest.raises(flight.FlightUnauthenticatedError):
        ask(one, certificates, "client", token=None)
    with pytest.raises(flight.FlightUnauthenticatedError):
        ask(one, certificates, "client", token="another-token-0001")
    for shows in (None, "stranger"):
        with pytest.raises(flight.FlightUnavailableError):
            ask(one, certificates, shows)
    assert ask(one, certificates, "client") == [{"x": 1}]
    # The command line can show one, too.
    for shows, code, text in (("client", 0, "1"), ("stranger", 3, "--tls-cert"), (None, 3, "--tls-cert")):
        shown = ["--tls-cert", certificates / f"{shows}.pem", "--tls-key", certificates / f"{shows}.key"] if shows else []
        command = [BINARY, "sql", "--uri", one.uri, "--tls-ca", certificates / "ours.pem", *shown, "--format", "csv", "SELECT 1 AS x"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"FLIGHTPATH_TOKEN": TOKEN}, timeout=60)
        assert done.returncode == code and text in done.stdout + done.stderr, (shows, done)


def test_settings_that_cannot_work_are_told_at_the_start(server, tpch_dir, certificates, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    for more, message in (({"client_ca": empty}, "tls.client_ca holds no certificate"), ({"client_ca": tmp_path / "none.pem"}, "there is no file")):
        with pytest.raises(RuntimeError, match=message):
            server("--data", tpch_dir, settings=settings(certificates, **more))
