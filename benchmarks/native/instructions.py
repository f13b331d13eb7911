"""Instructions for an element, out of the dumps that tools/count-instructions has valgrind write.

Each way of each source ran twice, one run three times as long. The difference of the two, divided by the difference in
elements, is what an element costs: what is done once for a stream cancels out. Of several runs the one with the fewest
instructions counts. How often the threads wait for each other, or look how much memory is left, depends on time, and is left
out. So the figures are the same within a percent or two, whatever else the machine does.

Valgrind slows sources down. Where an element takes more than 100 us, the producer looks at the clock for each (GilTurn), which
costs some 40 instructions that it does not spend otherwise.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

OURS = "_native"
READER = "stream_benchmark"
# What time decides, and not the number of elements: waiting for each other, and looking for scarce memory ten times a second.
# By the start of a function's name.
TIMED_MAKING = ("fastgen::Channel::WaitForRoom(", "fastgen::SlabPool::TryGet(")
TIMED_TAKING = ("fastgen::PythonStream::Next(", "fastgen::Channel::RenewCredit(")
LOOKING_FOR_MEMORY = "fastgen::UnderMemoryPressure("
WAYS = ("loop", "stream", "batched")

Function = tuple[str, str]
"""The library and the name."""


@dataclass
class Profile:
    """What was counted, of one run or for one element.

    Attributes:
      own: Instructions by library, function, and the file that they were written in: with inlining, not that of the function.
      calls: Instructions of one function on behalf of another, and of all that it called in its turn: caller, callee.
    """

    own: dict[tuple[Function, str], float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[tuple[Function, Function], float] = field(
        default_factory=lambda: defaultdict(float)
    )

    def total(self) -> float:
        return sum(self.own.values())

    def inclusive_by_function(self, library: str) -> dict[str, float]:
        """What each function of a library costs with all that it calls; too much for those that call themselves."""
        found: dict[str, float] = defaultdict(float)
        for (function, _), cost in self.own.items():
            if function[0] == library:
                found[function[1]] += cost
        for (caller, _), cost in self.calls.items():
            if caller[0] == library:
                found[caller[1]] += cost
        return found

    def own_by_file(self, library: str) -> dict[str, float]:
        """A library's own instructions, by the file that they were written in."""
        found: dict[str, float] = defaultdict(float)
        for (function, file), cost in self.own.items():
            if function[0] == library:
                found[file] += cost
        return found

    def calls_out_of(self, library: str) -> dict[Function, float]:
        """What a library had others do, by the function that it called."""
        found: dict[Function, float] = defaultdict(float)
        for (caller, callee), cost in self.calls.items():
            if caller[0] == library != callee[0]:
                found[callee] += cost
        return found


def library_of(path: str) -> str:
    return Path(path).name.split(".")[0]


def read(path: Path) -> tuple[str, Profile]:
    """One dump: the name that it was given, and what is in it."""
    names: dict[str, dict[str, str]] = {kind: {} for kind in ("ob", "fn", "fl")}

    def name_of(kind: str, text: str) -> str:
        """Names are written out once, and numbered."""
        number, _, name = text.partition(" ")
        if name:
            names[kind][number] = name
        return names[kind][number]

    label = ""
    profile = Profile()
    library, callee_library, file = "", "", ""
    function: Function = ("", "")
    callee: Function | None = None
    with path.open() as lines:
        for line in lines:
            key, equals, value = line.rstrip("\n").partition("=")
            if line[0] in "0123456789+-*":
                cost = float(line.split()[1])
                if callee is None:
                    profile.own[function, file] += cost
                else:
                    profile.calls[function, callee] += cost
                    callee = None
            elif line.startswith("desc: Trigger: Client Request: "):
                label = line.rpartition(": ")[2].strip()
            elif not equals:
                continue
            elif key == "ob":
                library = library_of(name_of("ob", value))
            elif key in ("fl", "fi", "fe"):
                file = Path(name_of("fl", value)).name
            elif key in ("cfl", "cfi"):
                name_of("fl", value)
            elif key == "fn":
                function = (library, name_of("fn", value))
                callee_library = library
            elif key == "cob":
                callee_library = library_of(name_of("ob", value))
            elif key == "cfn":
                pending = (callee_library, name_of("fn", value))
                callee_library = library
            elif key == "calls":
                callee = pending
    return label, profile


def per_element(short: Profile, long: Profile, elements: int) -> Profile:
    found = Profile()
    for place in long.own.keys() | short.own.keys():
        found.own[place] = (long.own.get(place, 0.0) - short.own.get(place, 0.0)) / elements
    for pair in long.calls.keys() | short.calls.keys():
        found.calls[pair] = (long.calls.get(pair, 0.0) - short.calls.get(pair, 0.0)) / elements
    return found


def timed(profile: Profile, wait: str, looks_for_memory: str) -> float:
    """What one thread does as time passes."""
    waits = sum(
        cost for name, cost in profile.inclusive_by_function(OURS).items() if name.startswith(wait)
    )
    return waits + sum(
        cost
        for (caller, callee), cost in profile.calls.items()
        if caller[1].startswith(looks_for_memory) and callee[1].startswith(LOOKING_FOR_MEMORY)
    )


def shares(profile: Profile) -> tuple[float, float]:
    """What making elements takes, and taking them; without what time decides."""
    readers = profile.inclusive_by_function(READER)
    reading = sum(cost for name, cost in readers.items() if "ReadAll" in name)
    making = profile.total() - reading
    return making - timed(profile, *TIMED_MAKING), reading - timed(profile, *TIMED_TAKING)


def read_all(folder: Path) -> dict[str, dict[str, Profile]]:
    """What an element costs, by source and way."""
    runs: dict[tuple[str, str], dict[int, Profile]] = defaultdict(dict)
    for path in sorted(folder.glob("dump.*"), key=lambda path: int(path.suffix[1:] or 0)):
        label, profile = read(path)
        name, way, elements = label.split("|")
        others = runs[name, way]
        if int(elements) not in others or sum(shares(profile)) < sum(shares(others[int(elements)])):
            others[int(elements)] = profile
    found: dict[str, dict[str, Profile]] = defaultdict(dict)
    for (name, way), sizes in runs.items():
        short, long = sorted(sizes)
        found[name][way] = per_element(sizes[short], sizes[long], long - short)
    return found


def print_totals(found: dict[str, dict[str, Profile]]) -> None:
    """One row for each source. Making an element includes what the source does, but no loop's bytecode."""
    print(
        "Instructions for an element: the source alone, in a loop that does nothing; made and taken, alone and in batches.\n"
    )
    print("| elements | the source | made | taken | made in batches | taken in batches |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, ways in found.items():
        cells = (ways["loop"].total(), *shares(ways["stream"]), *shares(ways["batched"]))
        print(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")


def largest(costs: dict[str, float], count: int) -> Iterable[tuple[str, float]]:
    return sorted(costs.items(), key=lambda item: -item[1])[:count]


def print_parts(name: str, way: str, profile: Profile, count: int) -> None:
    print(f"\n{name}, {way}: {profile.total():,.0f}")
    own = profile.own_by_file(OURS)
    print(f"  fastgen's own code {sum(own.values()):,.0f}")
    for file, cost in largest(own, count):
        print(f"    {cost:8,.1f}  {file}")
    called = profile.calls_out_of(OURS)
    print("  what it calls")
    for callee, cost in largest(
        {f"{function} ({library})": cost for (library, function), cost in called.items()}, count
    ):
        print(f"    {cost:8,.1f}  {callee}")
    print("  its functions, with what they call")
    for text, cost in largest(profile.inclusive_by_function(OURS), 2 * count):
        print(f"    {cost:8,.1f}  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="instructions", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the dumps are")
    parser.add_argument(
        "--parts", type=int, default=0, metavar="N", help="also the N largest parts of each"
    )
    options = parser.parse_args()
    found = read_all(options.folder)
    if not found:
        sys.exit(f"no dumps in {options.folder}")
    print_totals(found)
    if options.parts:
        for name, ways in found.items():
            for way in WAYS[1:]:
                print_parts(name, way, ways[way], options.parts)


if __name__ == "__main__":
    main()
