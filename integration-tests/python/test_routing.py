"""Profiles, budgets, limits, learning and new settings without a restart, on a real server."""

import concurrent.futures
import hashlib
import signal
import subprocess

import pyarrow.flight as flight
import pytest
from conftest import BINARY, wait_until
from simulation import connect

SETTINGS = """
[profiles.tiny]
rows_max = 100
timeout_seconds = 60
tags = ["tiles"]

[profiles.narrow]
scan_max = "1KB"

[profiles.broke]
budget_usd_per_day = 0

[profiles.handed_down]
budget_usd_per_day = 0
over_budget_engines = ["datafusion"]

[profiles.only_duckdb]
engines = ["duckdb"]
"""

COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}

BIG = "SELECT l_suppkey, sum(l_extendedprice * (1 - l_discount)) AS s FROM lineitem GROUP BY l_suppkey ORDER BY s DESC LIMIT 3"


def explain(server, sql, **headers):
    return {row["engine"]: row for row in server.query(f"EXPLAIN ROUTE {sql}", headers=headers).to_pylist()}


def error_of(call):
    with pytest.raises(Exception) as caught:
        call()
    return str(caught.value)


def test_a_profile_is_chosen_by_header_set_and_tag(server, tpch_dir):
    one = server("--data", tpch_dir, settings=SETTINGS)
    rows = explain(one, BIG, profile="only_duckdb")
    assert rows["duckdb"]["chosen"] and not rows["datafusion"]["eligible"] and "only_duckdb" in rows["datafusion"]["reason"]
    many = "SELECT o_orderkey FROM orders"
    said = error_of(lambda: one.query(many, headers={"tag": "tiles"}))
    assert "more rows than this profile allows" in said
    # A result of exactly the limit is whole.
    assert one.query(f"{many} LIMIT 100", headers={"tag": "tiles"}).num_rows == 100
    # The session's own word comes before the tag's.
    assert one.query(many, headers={"tag": "tiles", "profile": "default"}).num_rows > 100
    with one.connect(**COOKIES) as connection, connection.cursor() as cursor:
        cursor.execute("SET profile = 'tiny'")
        cursor.fetch_arrow_table()
        cursor.execute(f"{many} LIMIT 100")
        assert cursor.fetch_arrow_table().num_rows == 100
        said = error_of(lambda: (cursor.execute(many), cursor.fetch_arrow_table()))
        assert "more rows than this profile allows" in said
        said = error_of(lambda: (cursor.execute("SET profile = 'fast'"), cursor.fetch_arrow_table()))
        assert "there is no profile `fast`" in said and "interactive" in said
    used = one.query("SELECT DISTINCT profile FROM system.queries WHERE outcome = 'success'")["profile"].to_pylist()
    assert {"tiny", "default"} <= set(used)


def test_limits_and_budgets_refuse_with_their_reason(server, tpch_dir):
    one = server("--data", tpch_dir, settings=SETTINGS)
    said = error_of(lambda: one.query(BIG, headers={"profile": "narrow"}))
    assert "not eligible" in said and "narrow" in said
    said = error_of(lambda: one.query(BIG, headers={"profile": "broke"}))
    assert "broke" in said and "today" in said
    rows = explain(one, BIG, profile="handed_down")
    assert rows["datafusion"]["chosen"] and "today" in rows["duckdb"]["reason"]


@pytest.mark.parametrize("profile", ["default", "interactive", "dashboard", "batch", "frugal"])
def test_every_shipped_profile_answers(tpch, profile):
    assert tpch.query("SELECT count(*) AS n FROM nation", headers={"profile": profile})["n"].to_pylist() == [25]


def test_predictions_get_better_by_themselves_and_outlive_a_restart(server, tpch_dir, tmp_path):
    one = server("--data", tpch_dir)

    def seen(on):
        found = on.query(
            "SELECT d.source, d.observations FROM system.decisions d JOIN system.queries q ON q.query_id = d.query_id "
            f"WHERE q.text LIKE 'EXPLAIN ROUTE SELECT l_suppkey%' AND d.engine = 'duckdb' ORDER BY q.started_at DESC LIMIT 1"
        ).to_pylist()
        return found[0] if found else None

    explain(one, BIG)
    wait_until(lambda: seen(one) is not None, what="the record")
    assert seen(one)["source"] == "prior"
    for _ in range(4):
        one.query(BIG, engine="duckdb")
    explain(one, BIG)
    wait_until(lambda: seen(one)["source"] == "shape", what="a prediction from what was seen")
    assert one.stop() == 0
    two = server("--data", tpch_dir, env={"FLIGHTPATH_STATE_DIR": str(one.state_dir)})
    explain(two, BIG)
    wait_until(lambda: seen(two)["observations"] >= 3, what="the kept observations")


@pytest.mark.parametrize("engine", ["duckdb", "datafusion"])
def test_what_is_read_is_on_record_beside_what_was_predicted(server, tpch_dir, engine):
    one = server("--data", tpch_dir)
    sql = "SELECT sum(l_extendedprice) AS s, max(l_comment) AS c FROM lineitem"
    for _ in range(2):
        one.query(sql, engine=engine)
    found = one.query(f"SELECT predicted_bytes, predicted_p95_bytes, read_bytes FROM system.queries WHERE text = '{sql}' ORDER BY started_at").to_pylist()
    assert len(found) == 2
    first, second = found
    for row in found:
        assert row["predicted_p95_bytes"] >= row["predicted_bytes"] > 0, found
    assert first["predicted_bytes"] / 4 < first["read_bytes"] < first["predicted_bytes"] * 4, found
    # DuckDB keeps what it read.
    assert second["read_bytes"] == first["read_bytes"] if engine == "datafusion" else second["read_bytes"] < first["read_bytes"], found
    explained = explain(one, sql)[engine]
    assert explained["predicted_bytes"] == first["predicted_bytes"] <= explained["predicted_p95_bytes"]


def test_one_run_says_little_of_other_shapes_and_what_is_made_counts(server, tpch_dir):
    one = server("--data", tpch_dir, settings=SETTINGS)
    small = "SELECT n_name FROM nation WHERE n_nationkey = 3"
    before = explain(one, small)
    for name, row in before.items():
        assert row["source"] == "prior" and row["observations"] == 0, name
        assert row["predicted_p95_ms"] >= row["predicted_ms"] > 0 and row["predicted_usd_p95"] >= row["predicted_usd"], name
        assert row["predicted_memory_p95_bytes"] >= row["predicted_memory_bytes"] > 0, name
    for engine in before:
        one.query(BIG, engine=engine)
    after = explain(one, small)
    for name, row in after.items():
        for column in ("predicted_ms", "predicted_usd"):
            assert row[column] <= before[name][column] * 2.01 and row[column] >= before[name][column] / 2.01, (name, column)
        assert row["predicted_memory_p95_bytes"] == before[name]["predicted_memory_p95_bytes"], name
        assert "spill" not in row["reason"], name
    pairs = explain(one, "SELECT count(*) FROM lineitem a CROSS JOIN lineitem b")
    assert all(row["predicted_ms"] > 1_000 for row in pairs.values()), pairs
    made = explain(one, "SELECT count(*) FROM (SELECT explode(sequence(1, 9000000)) AS n)")
    eligible = [row for row in made.values() if row["eligible"]]
    assert eligible and all(row["predicted_ms"] > 20 and row["predicted_memory_bytes"] > 100_000_000 for row in eligible), made


def test_settings_are_taken_on_without_a_restart_once_they_are_right(server, tpch_dir):
    one = server("--data", tpch_dir, settings="[routing]\nstrategy = \"always:duckdb\"\n")
    config = one.state_dir / "flightpath.toml"
    assert explain(one, "SELECT 1")["duckdb"]["chosen"]

    def reload(text):
        config.write_text(text)
        one.process.send_signal(signal.SIGHUP)

    reload('[routing]\nstrategy = "always:nobody"\n')
    wait_until(lambda: "the settings stay as they were" in one.stderr(), what="the complaint")
    assert explain(one, "SELECT 1")["duckdb"]["chosen"]
    reload('[routing]\nstrategy = "always:datafusion"\n[profiles.fresh]\n')
    wait_until(lambda: explain(one, "SELECT 1")["datafusion"]["chosen"], what="the new strategy")
    assert one.query("SELECT 1 AS n", headers={"profile": "fresh"})["n"].to_pylist() == [1]
    assert "take effect at the next start" not in one.stderr()
    # Only what needs a restart is named as such.
    reload('log_level = "debug"\n[limits]\nconnections_max = 77\ntimeout_seconds = 900\n[log]\nread_rows_max = 5\n')
    wait_until(lambda: "take effect at the next start" in one.stderr(), what="the hint")
    [hint] = [line for line in one.stderr().splitlines() if "take effect at the next start" in line]
    assert "limits.connections_max" in hint and "log.read_rows_max" in hint and "timeout" not in hint and "log_level" not in hint
    reload('log_level = "debug"\n')
    wait_until(lambda: one.stderr().count("settings taken on") >= 3, what="the last settings")
    assert one.stderr().count("take effect at the next start") == 1


def test_a_budget_holds_for_many_at_once(server, tpch_dir):
    dear = "[engines.duckdb]\nusd_per_hour = 1000000\n"
    budget = 30.0
    one = server("--data", tpch_dir, settings=dear + f"[profiles.poor]\nengines = [\"duckdb\"]\nbudget_usd_per_day = {budget}\n")
    least = explain(one, BIG, profile="poor")["duckdb"]["predicted_usd"]
    assert 0 < least < budget

    def asked(number):
        try:
            one.query(f"{BIG} -- {number}", headers={"profile": "poor"})
        except Exception as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor(40) as executor:
        said = list(executor.map(asked, range(40)))
    refusals = [text for text in said if text is not None]
    assert refusals and all("`poor` has spent its 30.00 dollars" in text for text in refusals), refusals[:2]
    rows = one.query("SELECT outcome, predicted_usd, actual_usd FROM system.queries WHERE profile = 'poor' AND statement_kind = 'query'").to_pylist()
    ran = [row for row in rows if row["outcome"] == "success"]
    assert len(rows) == 40 and 0 < len(ran) < 40 and {row["outcome"] for row in rows} == {"success", "refused"}
    # What was set aside or spent when the last one was let in was still below the budget.
    assert sum(min(row["predicted_usd"], row["actual_usd"]) for row in ran) < budget + max(row["predicted_usd"] for row in ran)


def test_a_query_pays_for_what_it_reads_too(server, tpch_dir):
    one = server("--data", tpch_dir, settings="[prices]\nstorage_usd_per_gb = 1000\n")
    one.query("SELECT sum(l_extendedprice) AS s FROM lineitem", headers={"tag": "read"})
    [row] = one.query("SELECT predicted_usd, actual_usd, scan_bytes FROM system.queries WHERE tag = 'read'").to_pylist()
    for_reading = row["scan_bytes"] / 1e9 * 1000
    assert row["scan_bytes"] > 0 and row["predicted_usd"] > for_reading and row["actual_usd"] > for_reading, row


def test_prices_the_log_and_who_may_connect_change_without_a_restart(server, tpch_dir):
    def user(name, token):
        return f'[[auth.tokens]]\nprincipal = "{name}"\ntoken_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'

    prices = "[engines.duckdb]\nusd_per_hour = {0}\n[engines.datafusion]\nusd_per_hour = {0}\n"
    ann, ben = "token-of-ann-00000001", "token-of-ben-00000001"
    one = server("--data", tpch_dir, settings='log_level = "warn"\n' + user("ann", ann) + prices.format(1))
    config = one.state_dir / "flightpath.toml"

    def usd(token):
        with connect(one, token) as connection, connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN ROUTE {BIG}")
            return {row["engine"]: row["predicted_usd"] for row in cursor.fetch_arrow_table().to_pylist()}

    def works(token):
        try:
            return bool(usd(token))
        except Exception as error:
            assert "UNAUTHENTICATED" in str(error).upper() or "isn't valid" in str(error), error
            return False

    before = usd(ann)
    assert not works(ben)
    # Wrong as a whole: nothing of it is taken.
    config.write_text(user("ben", ben) + prices.format(1000) + '[log]\nretention_days = "soon"\n')
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the settings stay as they were" in one.stderr(), what="the complaint")
    assert works(ann) and not works(ben) and usd(ann)["datafusion"] < before["datafusion"] * 10
    config.write_text('log_level = "info"\n' + user("ben", ben) + prices.format(1000) + "[log]\nretention_days = 5\n")
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: works(ben), what="the new user")
    assert not works(ann)
    after = usd(ben)
    assert all(after[engine] > before[engine] * 50 for engine in ("duckdb", "datafusion"))
    wait_until(lambda: "settings taken on" in one.stderr(), what="lines of the new level")
    assert "take effect at the next start" not in one.stderr()


def test_a_removed_users_session_ends(server, tpch_dir):
    def user(name, password):
        hashed = subprocess.run([BINARY, "hash-password"], input=password, capture_output=True, text=True, check=True).stdout.strip()
        return f'[[auth.users]]\nname = "{name}"\npassword_hash = "{hashed}"\n'

    ann, ben = user("ann", "a password of ann"), user("ben", "a password of ben")
    one = server("--data", tpch_dir, settings=ann + ben)

    def logged_in(name, password):
        with flight.connect(one.uri) as client:
            return client.authenticate_basic_token(name, password)[1].decode().removeprefix("Bearer ")

    # The driver closes its session at the end: one for each time.
    sessions = {name: [logged_in(name, f"a password of {name}") for _ in range(2)] for name in ("ann", "ben")}

    def asks(name):
        with connect(one, sessions[name].pop()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM nation")
            return cursor.fetchall()

    assert asks("ann") == asks("ben") == [(25,)]
    (one.state_dir / "flightpath.toml").write_text(ben)
    one.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings taken on" in one.stderr(), what="the settings")
    assert "isn't valid; log in again" in error_of(lambda: asks("ann")) and asks("ben") == [(25,)]
    assert error_of(lambda: logged_in("ann", "a password of ann"))
