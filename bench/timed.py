"""`python -m bench.timed COMMAND…` runs a command and prints the seconds it took."""

import subprocess
import sys
import time


def main(*command: str) -> None:
    began = time.perf_counter()
    subprocess.run(command, check=True)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
