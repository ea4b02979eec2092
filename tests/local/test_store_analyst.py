"""Analysts read the tables, and nothing else whatever they try."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from tests.conftest import Stack


def refusal(client: Client, sql: str, **arguments: Any) -> int:
    with pytest.raises((DatabaseError, OperationalError)) as caught:
        client.raw_query(sql, **arguments)
    return int(caught.value.code or str(caught.value).partition("Code: ")[2].partition(".")[0])


def test_reads(analyst: Client):
    count: Any = analyst.command("SELECT count() FROM local_t")
    assert count > 0
    assert len(analyst.query_df("SELECT * FROM local_t LIMIT 10")) == 10
    with analyst.query_row_block_stream("SELECT number FROM numbers(100000)") as blocks:
        assert sum(map(len, blocks)) == 100_000
    assert analyst.query("SELECT {x:String}", parameters={"x": "file"}).first_row[0] == "file"


def test_shows(analyst: Client):
    assert "local_t" in str(analyst.command("SHOW TABLES FROM sealtrail"))
    assert "CREATE TABLE" in str(analyst.command("SHOW CREATE TABLE sealtrail.local_t"))
    assert len(analyst.query("DESCRIBE TABLE sealtrail.local_t").result_rows) == 6
    assert analyst.command("EXISTS TABLE sealtrail.local_t") == 1


@pytest.mark.parametrize("sql", [
    "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n+1 FROM t WHERE n<5) SELECT n FROM t",
    "SELECT number, lagInFrame(number) OVER (ORDER BY number ROWS 1 PRECEDING) FROM numbers(3)",
    "SELECT 1 INTERSECT SELECT 1",
    "EXPLAIN indexes = 1 SELECT count() FROM local_t WHERE a = 1",
    "SELECT number FROM numbers(10) ORDER BY number WITH FILL STEP 2",
    "SELECT DISTINCT ON (number) number FROM numbers(2)",
    "SELECT * EXCEPT (a) FROM local_t LIMIT 1",
    "SELECT arrayJoin([1, 2]) AS x, count() GROUP BY x WITH TOTALS",
    "SHOW COLUMNS FROM local_t FROM sealtrail",
    "SELECT 1 /* c */;",
])  # fmt: skip
def test_questions_that_must_work(analyst: Client, sql: str):
    assert analyst.raw_query(sql)


def test_words_that_only_look_dangerous(analyst: Client):
    found = analyst.query("SELECT url, remote FROM (SELECT 'x' AS url, 1 AS remote)").first_row
    assert found == ("x", 1)
    like = "SELECT 'file' AS x WHERE 'a file name' LIKE '%file%'"
    assert analyst.query(like).first_row[0] == "file"
    assert analyst.command("SELECT count() FROM numbers(10)") == 10
    assert analyst.command("SELECT sum(c1) FROM values((1),(2))") == 3


ATTEMPTS = {
    60: ["SELECT * FROM '/etc/hostname'"],
    164: [
        "INSERT INTO sealtrail.local_t (a) VALUES (1)",
        "SET readonly=0",
        "SELECT 1 SETTINGS readonly=0",
        "SELECT 1 SETTINGS max_execution_time=0",
        "SET ROLE sealtrail_writer",
        "SET ROLE sealtrail_loader",
        "SET ROLE ALL",
        "CREATE TABLE sealtrail.z (a Int8) ENGINE=Memory",
        "CREATE TEMPORARY TABLE z (a Int8)",
        "KILL QUERY WHERE 1",
        "SYSTEM FLUSH LOGS",
        "USE system",
        "DROP TABLE sealtrail.local_t",
        "OPTIMIZE TABLE sealtrail.local_t",
        "GRANT ALL ON *.* TO default",
        "BACKUP TABLE sealtrail.local_t TO File('/tmp/x')",
        "SELECT 1 FORMAT Template SETTINGS format_template_row='/etc/passwd'",
    ],
    1: [
        "SELECT 1 INTO OUTFILE '@/leak2'",
        "EXPLAIN SYNTAX SELECT 1 INTO OUTFILE '@/leak3'",
        "SHOW TABLES INTO OUTFILE '@/leak4'",
    ],
    497: [
        "SELECT * FROM default.`/etc/hostname`",
        "SELECT file('/etc/hostname')",
        "SELECT * FROM file('/etc/hostname','LineAsString')",
        "SELECT arrayMap(file, ['/etc/hostname'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/hostname')",
        "SELECT `fi\\x6ce`('/etc/hostname')",
        "SELECT $$'$$, file('/etc/hostname'), $$'$$",
        "SELECT ‘'’, file('/etc/hostname'), ‘'’",  # noqa: RUF001 - the engine reads these quotes
        "EXPLAIN SELECT file('/etc/hostname')",
        "DESCRIBE TABLE file('/etc/hostname')",
        "SELECT * FROM url('http://127.0.0.1:1/','LineAsString')",
        "SELECT * FROM remote('127.0.0.1:1','system.one')",
        "SELECT * FROM executable('cat /etc/passwd','TSV','a String')",
        "SELECT * FROM python('store')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/k','LineAsString')",
        "SELECT * FROM filesystem('/etc')",
        "SELECT * FROM input('a String')",
        "SELECT 1 AS x ORDER BY x WITH FILL FROM length(file('/etc/hostname')) TO 5",
        "SELECT 1 AS x, '' AS y ORDER BY x WITH FILL FROM 1 TO 3 INTERPOLATE (y AS file('/etc/x'))",
        "SELECT number FROM numbers(3) LIMIT length(file('/etc/hostname'))",
        "SELECT number, row_number() OVER w FROM numbers(3) WINDOW w AS (ORDER BY file('/etc/x'))",
        "SELECT number FROM numbers(3) QUALIFY file('/etc/hostname') = 'x'",
        "SELECT COLUMNS('.*') APPLY(x -> file(x)) FROM (SELECT '/etc/hostname' AS p)",
        "SELECT * REPLACE (file(p) AS p) FROM (SELECT '/etc/hostname' AS p)",
        "WITH f AS (SELECT file('/etc/hostname')) SELECT * FROM f",
        "SELECT quantile(length(file('/etc/hostname')))(number) FROM numbers(3)",
        "SELECT * FROM viewIfPermitted(SELECT file('/etc/x') ELSE null('a String'))",
        "SHOW TABLES WHERE file('/etc/hostname') != ''",
        "DESCRIBE (SELECT file('/etc/hostname'))",
        "SELECT /**/FILE/**/('/etc/hostname')",
        "SELECT * FROM eval('SELECT 1')",
        "DESCRIBE TABLE sqlite('@/leak5','y')",
        "DESCRIBE TABLE `sql\\x69te`('@/leak6','y')",
        "EXPLAIN SELECT * FROM sqlite('@/leak7','y')",
        "SELECT * FROM (SELECT 1) WHERE 1 IN (SELECT * FROM sqlite('@/leak8','y'))",
        "SELECT * FROM sqlite('@/leak9','y')",
        "SELECT * FROM mysql('127.0.0.1:1','a','b','c','d')",
    ],
    62: ["SELECT 1; SET readonly=0", "SELECT 1 /*", "garbage here is not sql"],
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("code", "sql"), [(code, sql) for code, sqls in ATTEMPTS.items() for sql in sqls]
)
def test_attempts(analyst: Client, tmp_path: Path, code: int, sql: str, whole: bool):
    settings = {"wait_end_of_query": 1} if whole else {}
    assert refusal(analyst, sql.replace("@", str(tmp_path)), settings=settings) == code
    assert list(tmp_path.iterdir()) == []


def test_inserts_with_a_body(analyst: Client):
    for sql in (
        "INSERT INTO local_x FORMAT CSV",
        "INSERT INTO local_x SELECT a FROM input('a Int8') FORMAT CSV",
    ):
        with pytest.raises(DatabaseError) as caught:
            analyst.command(sql, data="1\n")
        assert caught.value.code == 164


def test_function_named_by_a_parameter(analyst: Client):
    sql = "SELECT arrayMap({f:Identifier}, ['/etc/hostname'])"
    assert refusal(analyst, sql, parameters={"f": "file"}) == 497


def ask(stack: Stack, sql: str, **arguments: str) -> tuple[str | None, bytes]:
    query = urlencode(
        {
            "user": stack.env["SEALTRAIL_ANALYST_USER"],
            "password": stack.env["SEALTRAIL_ANALYST_PASSWORD"],
            "query": sql,
            **arguments,
        }
    )
    connection = http.client.HTTPConnection(urlsplit(stack.env["SEALTRAIL_STORE_URL"]).netloc)
    connection.request("GET", f"/?{query}")
    answer = connection.getresponse()
    found = answer.headers["X-ClickHouse-Exception-Code"], answer.read()
    connection.close()
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("readonly", "0"),
        ("dialect", "kusto"),
        ("format_schema", "/etc/passwd"),
        ("max_memory_usage", "0"),
        ("max_memory_usage", "-1"),
        ("role", "sealtrail_writer"),
        ("allow_experimental_eval_table_function", "1"),
        ("max_execution_time", "1000000"),
        ("session_id", "mine"),
    ],
)
def test_settings_in_the_url(stack: Stack, name: str, value: str):
    sql = (
        "SELECT getSetting('readonly'), getSetting('max_memory_usage'), "
        "getSetting('max_execution_time'), enabledRoles()"
    )
    code, body = ask(stack, sql, **{name: value})
    assert code == "164" or body == b"1\t1048576000\t30\t[]\n"


def test_lower_limits_may_be_asked_for(stack: Stack):
    sql = "SELECT getSetting('max_execution_time')"
    assert ask(stack, sql, max_execution_time="5") == (None, b"5\n")
    assert ask(stack, sql, max_execution_time="soon")[0] == "36"


def test_limits(analyst: Client, stack: Stack):
    assert refusal(analyst, "SELECT number FROM numbers(11000000)") == 396
    slow = "SELECT sum(cityHash64(number)) FROM numbers(100000000000)"
    assert ask(stack, slow, max_execution_time="1")[0] == "159"


def test_json_for_dashboards(stack: Stack):
    body = ask(stack, "SELECT 1 AS one FORMAT JSON")[1]
    assert json.loads(body)["data"] == [{"one": 1}]
