#!/usr/bin/env bash
# Set up if needed and run the tests:  bash tests/run.sh [--all] [pytest arguments]
# --all adds the slow tests. What was skipped, and why, is listed at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

select=(-m "not slow")
arguments=()
for word in "$@"; do
  if [ "$word" = --all ]; then select=(); else arguments+=("$word"); fi
done

# shellcheck source=jobs/bootstrap.sh
. jobs/bootstrap.sh --tests
if [ ${#select[@]} -gt 0 ]; then echo "tests marked slow are left out; --all adds them"; fi
exec .venv/bin/python -m pytest -ra ${select[@]+"${select[@]}"} ${arguments[@]+"${arguments[@]}"}
