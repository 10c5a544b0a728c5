"""What is about to run, in one line."""

from collections.abc import Sequence

from cacheclip.errors import counted
from cacheclip.study.plan import Block


def sentence(plan: Sequence[Block]) -> str:
    """What is about to run: "46 runs: zero-shot 1; nearest-mean 9 (3 shots x 3 seeds); ..."."""
    by_method: dict[str, list[Block]] = {}
    for block in plan:
        by_method.setdefault(block.method.name, []).append(block)
    said: dict[tuple[int, str], list[str]] = {}  # runs and settings -> the methods that have them
    for name, own in by_method.items():
        said.setdefault(_size(own), []).append(name)
    drawn = next((own for own in by_method.values() if own[0].drawn), [])
    shots = ",".join(dict.fromkeys(str(block.shots) for block in drawn))
    grid = f"shots {shots} x {counted(_seeds(drawn), 'seed')}" if drawn else ""
    grid += f" x {n} policies" if (n := _policies(drawn)) > 1 else ""
    parts = []
    for (each_runs, settings), names in said.items():
        each = " each" if len(names) > 1 else ""
        product = ""
        if by_method[names[0]][0].drawn:
            product = " ".join(filter(None, [grid, settings]))
            grid = ""  # said once
        elif (streams := _seeds(by_method[names[0]])) > 1:
            product = " ".join(filter(None, [counted(streams, "seed"), settings]))
        parts.append(f"{', '.join(names)} {each_runs}{each}{f' ({product})' if product else ''}")
    runs = sum(block.runs for block in plan)
    stacks = sum(len(block.stacks) for block in plan)
    return f"{counted(runs, 'run')}: {'; '.join(parts)}; in {counted(stacks, 'stack')}"


def _size(own: Sequence[Block]) -> tuple[int, str]:
    """One method's runs, and by how many starts and settings they are multiplied, in words."""
    starts = len({cell.init_seed for cell in own[0].cells if cell.seed == own[0].cells[0].seed})
    settings = own[0].runs // max(1, _seeds(own) * starts) if _policies(own) == 1 else 0
    runs = sum(block.runs for block in own)
    factors = [f"x {n} {what}" for n, what in ((starts, "starts"), (settings, "settings")) if n > 1]
    return runs, " ".join(factors)


def _policies(own: Sequence[Block]) -> int:
    return len({block.policy.name for block in own})


def _seeds(own: Sequence[Block]) -> int:
    return len({cell.seed for cell in own[0].cells}) if own else 0
