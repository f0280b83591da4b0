"""Flight SQL's commands for pyarrow, which speaks Flight alone."""

import pyarrow.flight as flight


def field(number, payload):
    """One length-delimited protobuf field."""
    length, size = b"", len(payload)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def command(name, body=b""):
    url = f"type.googleapis.com/arrow.flight.protocol.sql.{name}".encode()
    return flight.FlightDescriptor.for_command(field(1, url) + field(2, body))


def statement(text):
    return command("CommandStatementQuery", field(1, text.encode()))
