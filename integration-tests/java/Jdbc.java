import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Statement;

/** What a JDBC tool does with a server, one printed line per finding: {@code what|answer}. */
public class Jdbc {
    interface Step {
        void run() throws Exception;
    }

    static void say(String what, Object answer) {
        System.out.println(what + "|" + answer);
    }

    static void step(String what, Step step) {
        try {
            step.run();
        } catch (Exception e) {
            say(what, "failed: " + e.getMessage());
        }
    }

    /** Rows parted by {@code ;}, values by {@code ,}; timestamps by their own method, as the driver wants it. */
    static void rows(String what, ResultSet rows, String... columns) throws SQLException {
        ResultSetMetaData meta = rows.getMetaData();
        StringBuilder text = new StringBuilder();
        while (rows.next()) {
            for (int i = 1; i <= (columns.length > 0 ? columns.length : meta.getColumnCount()); i++) {
                int at = columns.length > 0 ? rows.findColumn(columns[i - 1]) : i;
                boolean zoned = meta.getColumnType(at) == java.sql.Types.TIMESTAMP_WITH_TIMEZONE;
                text.append(i > 1 ? "," : "").append(zoned ? rows.getTimestamp(at) : rows.getObject(at));
            }
            text.append(';');
        }
        rows.close();
        say(what, text);
    }

    public static void main(String[] args) throws Exception {
        try (Connection connection = DriverManager.getConnection(args[0])) {
            DatabaseMetaData meta = connection.getMetaData();
            step("product", () -> say("product", meta.getDatabaseProductName()));
            step("catalogs", () -> rows("catalogs", meta.getCatalogs()));
            step("schemas", () -> rows("schemas", meta.getSchemas()));
            step("types", () -> rows("types", meta.getTableTypes()));
            step("tables", () -> rows("tables", meta.getTables("lake", "default", "n%", new String[] {"TABLE"}), "TABLE_SCHEM", "TABLE_NAME", "TABLE_TYPE"));
            step("columns", () -> rows("columns", meta.getColumns("lake", "default", "nation", "%"), "COLUMN_NAME", "TYPE_NAME", "ORDINAL_POSITION"));
            step("keys", () -> rows("keys", meta.getPrimaryKeys("lake", "default", "nation")));
            step("typeinfo", () -> rows("typeinfo", meta.getTypeInfo()));
            try (Statement statement = connection.createStatement()) {
                step("query", () -> rows("query", statement.executeQuery("SELECT n_name FROM nation WHERE n_regionkey = 3 ORDER BY 1 LIMIT 2")));
                step("values", () -> rows("values", statement.executeQuery(
                    "SELECT true, 1Y, 2S, 3, 4L, 1.5F, 2.5D, 12.34BD, 'text', DATE'2024-02-29', TIMESTAMP_NTZ'2024-02-29 12:34:56.789', "
                        + "TIMESTAMP'2024-02-29 12:34:56.789', CAST(NULL AS INT), CAST(NULL AS TIMESTAMP)")));
                step("execute", () -> say("execute", statement.execute("SELECT 1 AS one") + " " + statement.getUpdateCount()));
                step("empty", () -> rows("empty", statement.executeQuery("SELECT * FROM nation WHERE n_nationkey < 0")));
                step("set", () -> say("set", statement.execute("SET engine = duckdb")));
                step("pinned", () -> rows("pinned", statement.executeQuery("SELECT current_schema()")));
                step("unknown", () -> statement.executeQuery("SELECT nothing FROM nation"));
                step("raised", () -> rows("raised", statement.executeQuery("SELECT 1 / 0")));
                step("write", () -> statement.executeUpdate("INSERT INTO nation VALUES (1)"));
                step("alive", () -> rows("alive", statement.executeQuery("SELECT 2")));
            }
            step("prepared", () -> {
                String sql = "SELECT o_orderkey FROM orders WHERE o_orderdate >= ? AND o_totalprice > ? AND o_orderstatus = ? AND o_orderkey < ? ORDER BY 1 LIMIT 2";
                try (PreparedStatement prepared = connection.prepareStatement(sql)) {
                    say("parameters", prepared.getParameterMetaData().getParameterCount());
                    say("promised", prepared.getMetaData().getColumnName(1) + " " + prepared.getMetaData().getColumnTypeName(1));
                    for (String status : new String[] {"O", "F"}) {
                        prepared.setDate(1, Date.valueOf("1994-01-01"));
                        prepared.setBigDecimal(2, new BigDecimal("1000.50"));
                        prepared.setString(3, status);
                        prepared.setLong(4, 1000);
                        rows("prepared " + status, prepared.executeQuery());
                    }
                }
            });
            step("cancel", () -> {
                try (Statement statement = connection.createStatement()) {
                    Thread other = new Thread(() -> {
                        try {
                            Thread.sleep(1000);
                            statement.cancel();
                        } catch (Exception e) {
                            say("cancelling", e);
                        }
                    });
                    other.start();
                    ResultSet rows = statement.executeQuery(
                        "SELECT count(*) FROM lineitem AS a JOIN lineitem AS b ON a.l_suppkey = b.l_suppkey JOIN lineitem AS c ON b.l_partkey < c.l_partkey");
                    while (rows.next()) {
                        say("cancelled", "answered all the same");
                    }
                }
            });
        }
        // The driver leaves a thread behind.
        System.exit(0);
    }
}
