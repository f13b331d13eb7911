"""Compares fastgen with what it replaces, all systems alternating in one run.

Only ratios mean anything on a shared machine; the table shows medians and ratios.
"""

import argparse
import statistics
import time

from tqdm import tqdm
from workloads import WORKLOADS, Workload


def measure(workload: Workload, system: str) -> float:
    """Microseconds for one element, or for one dataset where many are made."""
    elements = workload.elements[system]
    start = time.perf_counter()
    for _ in range(workload.repeats):
        for _ in workload.systems[system](elements):
            pass
    seconds = time.perf_counter() - start
    return seconds * 1e6 / (workload.repeats if workload.repeats > 1 else elements)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = []
    with tqdm(total=len(options.only) * (options.rounds + 1), desc="measuring") as progress:
        for name in options.only:
            workload = WORKLOADS[name]
            times: dict[str, list[float]] = {system: [] for system in workload.systems}
            for round_ in range(options.rounds + 1):
                for system in workload.systems:
                    took = measure(workload, system)
                    if round_ > 0:  # the first warms up
                        times[system].append(took)
                progress.update()
            rows.append((workload, {s: statistics.median(t) for s, t in times.items()}))
    print(f"\n{'microseconds, median of ' + str(options.rounds):56}{'tf.data':>10}{'fastgen':>10}"
          f"{'slices':>10}{'tf.data/fastgen':>17}")  # fmt: skip
    for workload, medians in rows:
        slices = medians.get("from_tensor_slices")
        print(
            f"{workload.what:56}{medians['tf.data']:10.2f}{medians['fastgen']:10.2f}"
            f"{'' if slices is None else f'{slices:.2f}':>10}"
            f"{medians['tf.data'] / medians['fastgen']:16.1f}x"
        )


if __name__ == "__main__":
    main()
