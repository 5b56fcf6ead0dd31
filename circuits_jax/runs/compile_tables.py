"""A compiled program's figures for people."""

from typing import Any

from circuits_jax.config import Config
from circuits_jax.runs.ways_out import WayOut, estimated_items, ways_out
from circuits_jax.storage.tables import show_table
from circuits_jax.training.compiling.report import CompileReport, gib
from circuits_jax.training.compiling.topologies import describe_devices

MOST_COLLECTIVES = 8
_LEAST_SHARE = 0.0005


def describe(report: CompileReport) -> str:
    """The whole report: tables, and one sentence at the end."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    lines = [
        f"{report.what} for {report.slices}, {report.slices.chips} chip"
        f"{'s' if report.slices.chips > 1 else ''} ({mesh}); figures are of one chip",
        f"traced in {report.lower_seconds:.0f} s, compiled in {report.compile_seconds:.0f} s",
    ]
    if report.memory is not None and report.traffic is not None:
        lines += ["", show_table(_memory_rows(report)), "", show_table(_time_rows(report))]
        lines += ["", show_table(_share_rows(report))]
        if report.traffic.collectives:
            lines += ["", show_table(_collective_rows(report))]
        if report.traffic.uncounted:
            lines.append(
                f"note: nothing tells how often {len(report.traffic.uncounted)} loops turn; they are "
                f"counted once: {report.traffic.uncounted[0]}"
            )
    elif report.refusal is not None:
        lines += ["", f"the compiler refuses: {report.refusal.message}"]
    return "\n".join([*lines, "", report.sentence()])


def explain(config: Config, report: CompileReport) -> list[WayOut]:
    """Prints the largest items of a step that does not fit, and ways out by estimate; gives these."""
    devices = describe_devices(report.slices)
    items = estimated_items(config, devices)
    told = [{"largest items, by estimate": name, "GiB": gib(count)} for name, count in _largest(items)]
    print("\n" + show_table(told))
    needed = report.memory_bytes or sum(items.values())
    limit = report.memory_limit or 0
    ways = ways_out(config, devices, max(needed, sum(items.values())), limit)
    if ways:
        rows = [
            {
                "ways out, by estimate": str(way),
                "GiB": gib(way.bytes),
                "": "" if way.bytes <= limit else "not enough by itself",
            }
            for way in ways
        ]
        print("\n" + show_table(rows))
    else:
        print("\nno single setting would do; take more chips, or a smaller model")
    return ways


def _largest(items: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(items.items(), key=lambda item: -item[1])


def _memory_rows(report: CompileReport) -> list[dict[str, Any]]:
    memory = report.memory
    assert memory is not None
    parts = {
        "arguments": memory.arguments,
        "outputs": memory.outputs,
        "in place of arguments": -memory.aliased,
        "temporaries": memory.temporaries,
        "program": memory.code,
        "together": memory.total,
        "limit": report.memory_limit,
    }
    return [{"memory": name, "GiB": gib(count)} for name, count in parts.items()]


def _time_rows(report: CompileReport) -> list[dict[str, Any]]:
    traffic, seconds = report.traffic, report.seconds
    assert traffic is not None
    amounts = {
        "memory": f"{traffic.main_bytes / 1e9:.4g} GB, of {traffic.bytes / 1e9:.4g} read and written",
        "compute": f"{traffic.flops / 1e12:.4g} TFLOP",
        "network": f"{traffic.network_bytes / 1e9:.4g} GB",
    }
    return [
        {"at the chip's peak": name, "amount": amounts[name], "ms": f"{1e3 * seconds[name]:.4g}"}
        for name in amounts
    ]


def _share_rows(report: CompileReport) -> list[dict[str, Any]]:
    assert report.traffic is not None
    rows = _largest(report.traffic.shares)
    return [{"bytes read and written by": name, "share": f"{x:.1%}"} for name, x in rows if x > _LEAST_SHARE]


def _collective_rows(report: CompileReport) -> list[dict[str, Any]]:
    """Collectives of one kind and shape together, the largest first."""
    assert report.traffic is not None
    found: dict[tuple[str, str, str], list[float]] = {}
    for each in report.traffic.collectives:
        key = each.op, each.of, " x ".join(map(str, each.shape)) or "one number"
        found.setdefault(key, []).append(each.bytes)
    rows = [
        {"collective": op, "of": of, "shape": shape, "number": len(sizes), "MB": f"{sum(sizes) / 1e6:.4g}"}
        for (op, of, shape), sizes in sorted(found.items(), key=lambda item: -sum(item[1]))
    ]
    rest = rows[MOST_COLLECTIVES:]
    return rows[:MOST_COLLECTIVES] + ([{"collective": f"and {len(rest)} smaller kinds"}] if rest else [])
