#!/usr/bin/env bash
# One command from nothing to a result:  bash jobs/quickstart.sh
# Sets up if needed, then runs the stages of the work in their order on a small example.
# A stage that this version does not have is named, never imitated.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/bootstrap.sh
. jobs/bootstrap.sh

out=results/quickstart
mkdir -p "$out"
absent=()

has() { nanoslit "$1" --help > /dev/null 2>&1; }

stage() {  # stage TITLE COMMAND ARGUMENT...: run a command of nanoslit if it exists
  local title=$1
  shift
  if ! has "$1"; then
    absent+=("$title (nanoslit $1)")
    return
  fi
  printf '\n== %s\n$ nanoslit %s\n' "$title" "$*"
  nanoslit "$@"
}

stage "Write a case file" new "$out/case.toml" --force
stage "Check it" check "$out/case.toml"
stage "Study: simulate, discover the law, build the circuit, compare, report" \
  study sweeps/quickstart.toml -o "$out"

printf '\nresults are in %s\n' "$out"
for title in ${absent[@]+"${absent[@]}"}; do
  printf 'not in this version: %s\n' "$title"
done
