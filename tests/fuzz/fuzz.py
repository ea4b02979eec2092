"""`make fuzz SECONDS=300`: atheris (libFuzzer) on every parser that reads bytes of strangers.

Each target has a process of its own and an equal share of the time, begins with the corpus that is
kept in tests/fuzz/corpus and with good inputs, and keeps nothing but what crashed: that becomes an
asset in tests/fuzz/crashes, which `pytest tests/fuzz` runs from then on. Ends with one line of
JSON; exit status 1 if anything crashed.

Options: SECONDS TARGET...
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CORPUS, CRASHES = HERE / "corpus", HERE / "crashes"
ROOMS = ["sealtrail", *(f"sealtrail_{r}" for r in ("audit", "local", "processor", "producer"))]
MOST_MEMORY_MB = 2_048
MOST_BYTES = 4_096
# One input may take so long before it counts as one that hangs.
MOST_SECONDS = 20
_RUNS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


def child(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    # Each input may be worth a warning; a million of them are not.
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=ROOMS):
        from tests.fuzz import targets

    def one(data: bytes) -> None:
        targets.run_one(name, data)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def fuzz(name: str, seconds: int) -> dict[str, Any]:
    """One target in a process of its own."""
    from tests.fuzz import targets

    CRASHES.mkdir(exist_ok=True)
    before = {f.name for f in CRASHES.iterdir()}
    with tempfile.TemporaryDirectory(prefix="sealtrail-fuzz-") as folder:
        for number, seed in enumerate(targets.seeds()[name]):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        kept = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.fuzz", "--child", name),
                *(folder, *kept, f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}"),
                *(f"-rss_limit_mb={MOST_MEMORY_MB}", f"-max_len={MOST_BYTES}"),
                *("-print_final_stats=1", f"-artifact_prefix={CRASHES}/{name}-"),
                # Slower than that hangs; what is slow on a busy machine is no find.
                f"-report_slow_units={MOST_SECONDS}",
            ],
            cwd=HERE.parents[1],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    runs, covered = _RUNS.search(done.stderr), _COVERED.findall(done.stderr)
    found = sorted({f.name for f in CRASHES.iterdir()} - before)
    result: dict[str, Any] = {
        "runs": int(runs[1]) if runs else 0,
        "covered": int(covered[-1]) if covered else 0,
        "crashes": found,
    }
    if (done.returncode or not runs) and not found:
        result["crashes"] = [f"exit {done.returncode}: {done.stderr[-400:]}"]
    return result


def main(args: list[str]) -> int:
    """Run with the options given."""
    if args[:1] == ["--child"]:
        child(args[1], args[2:])
    from tests.fuzz import targets

    seconds, names = int(args[0]) if args else 60, args[1:] or list(targets.TARGETS)
    share = max(seconds // len(names), 2)
    results = {}
    for name in names:
        results[name] = found = fuzz(name, share)
        line = f"{name:<16}{found['runs']:>10,} inputs{found['covered']:>8,} edges"
        sys.stdout.write(f"{line}  {', '.join(found['crashes']) or 'nothing crashed'}\n")
        sys.stdout.flush()
    sys.stdout.write(f"waiting for their parsers: {', '.join(targets.WAITING)}\n")
    crashes = sum(len(found["crashes"]) for found in results.values())
    figures = {
        "targets": len(results),
        "crashes": crashes,
        "inputs": sum(found["runs"] for found in results.values()),
        "waiting": list(targets.WAITING),
        "seconds": share * len(names),
        "results": results,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return int(bool(crashes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
