"""The statement gate: what the engine's own rights do not stop.

The engine in a library was made for one trusting user. Its grants stop writes, DDL and most table
functions, but not the scalar `file()`, `INTO OUTFILE`, `SET ROLE`, or `sqlite()`, which creates
its file before its grant is looked at. So, before a statement runs:

- The engine's own parser says what it is; nothing here goes by regular expressions over SQL, which
  comments, escapes and heredocs get around.
- Nobody sends two statements, or writes files on the server.
- Analysts send reads only, and no name of a function that reaches outside, however it is spelt,
  quoted, handed to a higher-order function or passed as an identifier parameter.
- A statement that reads its own body through `input()` runs with the right to read files, so it
  may name no function that reads another one.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Final

from sealtrail_local.store.errors import (
    ACCESS_DENIED,
    READONLY,
    SYNTAX_ERROR,
    UNSUPPORTED_METHOD,
    Refused,
)
from sealtrail_local.store.statements import literal
from sealtrail_local.store.users import Role

# Scalar functions that no grant covers: files, and models on other hosts.
_SCALARS: Final = frozenset({
    "file", "aigenerate", "aiembed", "aiclassify", "aiextract",
    "aitranslate", "aifilter", "airedact", "aisimilarity",
})  # fmt: skip
# Table functions that stay inside the engine; every other one is refused.
_INNER_TABLES: Final = frozenset({
    "numbers", "numbers_mt", "zeros", "zeros_mt", "null", "values", "sqlstandardvalues", "format",
    "generaterandom", "generateseries", "generate_series", "primes", "view", "viewifpermitted",
    "merge", "mergetreeindex", "mergetreeprojection", "loop",
})  # fmt: skip
_OUTFILE: Final = re.compile(r"\bOUTFILE\b", re.IGNORECASE)
MAX_ANALYST_STATEMENT_BYTES: Final = 1 << 20


class Kind(Enum):
    """What the engine's parser says that a statement is."""

    READ_ONLY = "READ_ONLY"
    MUTATING = "MUTATING"
    CONTROL = "CONTROL"
    OTHER = "OTHER"

    @classmethod
    def _missing_(cls, value: object) -> "Kind":
        del value
        return cls.OTHER


Classify = Callable[[bytes], Mapping[str, Any]]
Ask = Callable[[str], str]


class Gate:
    """Decides whether a caller may send a statement.

    Args:
        classify: the engine's `classify_query` (a private name of chDB, hence its pinned version).
        ask: runs one trusted query and returns its text; it must raise RuntimeError on an engine
            error.
    """

    def __init__(self, classify: Classify, ask: Ask) -> None:
        self._classify = classify
        self._ask = ask
        tables = ask("SELECT DISTINCT lower(name) FROM system.table_functions").split("\n")
        self._denied = _SCALARS | (frozenset(tables) - _INNER_TABLES)

    def check(
        self,
        role: Role,
        statement: bytes,
        parameters: Mapping[str, str],
        *,
        reads_file: bool = False,
    ) -> Kind:
        """Refuse what the caller may not say.

        Args:
            role: of the caller.
            statement: as the caller meant it.
            parameters: query parameters by name.
            reads_file: whether it will run with the right to read its staged body.

        Returns:
            What kind of statement it is.

        Raises:
            Refused: with the code that a server would give.
        """
        report = self._classify(statement)
        kind = Kind(report["query_class"].name)
        text = statement.decode(errors="replace")
        if report["statement_count"] > 1:
            raise Refused(SYNTAX_ERROR, "Multi-statements are not allowed")
        if kind is Kind.CONTROL and _OUTFILE.search(text):
            raise Refused(UNSUPPORTED_METHOD, "INTO OUTFILE is not allowed")
        # A statement that does not parse counts as none: the engine words the error.
        if role is Role.ANALYST and report["statement_count"] == 1:
            if kind is not Kind.READ_ONLY:
                raise Refused(READONLY, "analyst: Cannot execute query in readonly mode")
            if len(statement) > MAX_ANALYST_STATEMENT_BYTES:
                raise Refused(SYNTAX_ERROR, "Max query size exceeded")
            self._refuse_names("analyst", text, parameters)
        elif reads_file:
            self._refuse_names("writer", text, parameters, allowed=frozenset({"input"}))
        return kind

    def _refuse_names(
        self,
        who: str,
        text: str,
        parameters: Mapping[str, str],
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        names = [*_names(self._tree(who, text))]
        if "Identifier" in text:
            names += [(value, False) for value in parameters.values()]
        for name, called in names:
            # `arrayMap(file, ...)` names the function without calling it.
            denied = (self._denied if called else _SCALARS) - allowed
            if name.lower() in denied:
                raise Refused(ACCESS_DENIED, f"{who}: Not enough privileges to use '{name}'")

    def _tree(self, who: str, text: str) -> Any:
        try:
            return json.loads(self._ask(f"SELECT parseQueryToJSON({literal(text)})"))
        except RuntimeError:
            # SHOW, DESCRIBE and EXISTS have no JSON form; without a call they reach nothing.
            if "(" in text:
                raise Refused(ACCESS_DENIED, f"{who}: only plain names are allowed here") from None
            return None


def _names(node: Any) -> Iterator[tuple[str, bool]]:
    """Every name in a parsed statement, and whether it is the name of a called function."""
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, list):
            pending += current
        elif isinstance(current, dict):
            for key, value in current.items():
                if key in {"name", "func_name"} and isinstance(value, str):
                    yield value, current.get("type") == "Function"
                else:
                    pending.append(value)
