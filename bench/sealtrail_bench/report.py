"""The figures as a table, as one line of JSON, and as plots. Pure but for the plots' files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sealtrail_bench.rates import Rates

# Figure -> (goal, whether more is better).
GOALS: dict[str, tuple[float, bool]] = {
    "ratios.full_vs_obvious": (80, True),
    "ratios.full_vs_unverified": (0.65, True),
    "ratios.faust_vs_plain": (0.80, True),
    "ratios.full_vs_native": (0.10, True),
    "ratios.emit_p50_vs_signing": (10, True),
    "linking_share": (0.25, False),
    "worker_rss_mb": (400, False),
    "lineage_depth10_10m_p95_s": (1.0, False),
    "evidence_bytes": (120, False),
    "latency_half_load_p99_s": (2.0, False),
    "ratios.growth_10m_vs_100k": (1.15, False),
}

# Variants as docs/performance.md calls them.
NAMES = {
    "obvious": "obvious design",
    "full": "everything on",
    "unlinked": "without links and skew",
    "unverified": "nothing verified",
    "plain": "plain consumer",
    "native": "ready Native blocks",
}


def rates(found: Rates) -> dict[str, Any]:
    """Median and least rate, CPU and memory of each variant, and the ratios of their medians."""
    variants: dict[str, dict[str, Any]] = {
        name: {
            "events_per_s": round(found.median(name)),
            "least_events_per_s": round(min(turn.rate for turn in turns)),
            "cpu_us": {
                process: round(
                    sorted(turn.cpu_us.get(process, 0.0) for turn in turns)[len(turns) // 2], 2
                )
                for process in turns[0].cpu_us
            },
            "rss_mb": {
                process: round(max(turn.rss_mb.get(process, 0.0) for turn in turns))
                for process in turns[0].rss_mb
            },
            "rounds": len(turns),
        }
        for name, turns in found.turns.items()
    }
    pairs = {
        "full_vs_obvious": ("full", "obvious"),
        "full_vs_unverified": ("full", "unverified"),
        "faust_vs_plain": ("full", "plain"),
        "full_vs_native": ("full", "native"),
    }
    ratios = {
        name: round(found.median(one) / found.median(other), 3)
        for name, (one, other) in pairs.items()
        if one in found.turns and other in found.turns
    }
    figures: dict[str, Any] = {"variants": variants, "ratios": ratios}
    if "full" in variants:
        figures["worker_rss_mb"] = variants["full"]["rss_mb"]["worker"]
    if {"full", "unlinked"} <= variants.keys():
        with_, without = (variants[name]["cpu_us"]["worker"] for name in ("full", "unlinked"))
        figures["linking_share"] = round(1 - without / with_, 3)
    return figures


def flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with dots, and values."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def goals(figures: Mapping[str, Any]) -> list[tuple[str, Any, str, str]]:
    """(figure, measured, goal, met or missed) of what was measured."""
    found = dict(flat(figures))
    rows = []
    for name, (goal, more) in GOALS.items():
        if name in found:
            met = found[name] >= goal if more else found[name] <= goal
            sign = ">=" if more else "<="
            rows.append((name, found[name], f"{sign} {goal:g}", "met" if met else "missed"))
    return rows


def plots(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what there is into SVG files.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "sealtrail"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (title, unit, bars) in _series(figures).items():
        figure, axes = plt.subplots(figsize=(7, 0.6 + 0.42 * len(bars)))
        axes.barh(list(bars), list(bars.values()), color="#3b6ea5")
        axes.invert_yaxis()
        axes.set_title(title, loc="left")
        axes.set_xlabel(unit)
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
        for at, value in enumerate(bars.values()):
            text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
            axes.annotate(f" {text}", (value, at), va="center", fontsize=8)
        # Room for the figure behind the longest bar, none above the first.
        axes.margins(x=0.14, y=0.02)
        figure.tight_layout()
        file = folder / f"{name}.svg"
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
        made.append(file)
    return made


def _series(figures: Mapping[str, Any]) -> dict[str, tuple[str, str, dict[str, float]]]:
    found: dict[str, tuple[str, str, dict[str, float]]] = {}
    variants = figures.get("variants", {})
    if variants:
        bars = {NAMES[name]: v["events_per_s"] for name, v in variants.items()}
        found["rates"] = ("Events a second, committed and queryable", "events/s", bars)
        cpu = variants.get("full", {}).get("cpu_us", {})
        if cpu:
            found["cpu"] = ("Everything on: CPU an event", "microseconds", dict(cpu))
    storage = figures.get("storage", {})
    if storage:
        tables = {name: size for name, size in storage["tables"].items() if size}
        found["storage"] = ("Bytes an event at rest, by table", "bytes", tables)
        if "cold" in storage:
            tables = {name: size for name, size in storage["cold"]["tables"].items() if size}
            found["cold"] = ("Bytes an event on the volume cold, by table", "bytes", tables)
        found["columns"] = ("Bytes an event at rest, largest columns", "bytes", storage["columns"])
    lineage = {
        f"{int(size):,} events, depth {depth}": walk["p95_s"]
        for size, depths in figures.get("lineage", {}).items()
        for depth, walk in depths.items()
    }
    if lineage:
        found["lineage"] = ("Lineage of one event, 95 %", "seconds", lineage)
    delays = {f"{k} of full load": v["p99_s"] for k, v in figures.get("latency", {}).items()}
    if delays:
        found["latency"] = ("Sent to queryable, 99 %", "seconds", delays)
    for key, title in (("growth", "events in the store"), ("chains", "chains")):
        bars = {f"{int(k):,} {title}": v["cpu_us_total"] for k, v in figures.get(key, {}).items()}
        if bars:
            found[key] = (f"CPU of worker and store by {title}", "microseconds an event", bars)
    return found
