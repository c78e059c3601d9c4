"""The paper's claims against the runs of a study, with error bars and a verdict each.

    python -m analysis.claims DIR

DIR is the folder of ``nanoslit study``. Prints the table and writes DIR/claims.json.
"""

import json
import sys

from nanoslit.errors import NanoslitError
from nanoslit.findings.claims import write_claims


def number(value, missing):
    """Return a number as text, or a word for an open bound."""
    return missing if value is None else f"{value:.3g}"


def main():
    """Judge, print, write."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        target = write_claims(sys.argv[1])
    except (NanoslitError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    found = json.loads(target.read_text(encoding="utf-8"))
    print(f"runs: {found['range']}\n")
    for claim in found["claims"]:
        print(f"{claim['number']:>4}  {claim['claim']} [{claim['place']}]")
        print(f"      asked: {claim['criterion']}")
        for c in claim["checks"]:
            bounds = f"{number(c['low'], '-inf')} .. {number(c['high'], 'inf')}"
            word = {True: "yes", False: "no", None: "open"}[c["holds"]]
            value = number(c["value"], "none")
            error = number(c["error"], "none")
            print(f"        {c['where']:46} {value:>9} +- {error:<9} in {bounds}: {word}")
        more = f" ({claim['boundary']})" if claim["boundary"] else ""
        print(f"      => {claim['verdict']}{more}")
    print(f"\nwrote {target}")


if __name__ == "__main__":
    main()
