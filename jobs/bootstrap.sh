#!/usr/bin/env bash
# Set up everything nanoslit needs and the environment to run it. Source it:
#
#     . jobs/bootstrap.sh            # the product
#     . jobs/bootstrap.sh --tests    # also the Debian packages that only tests use
#
# (called as a program it only sets up). On Debian 12, as root or with sudo, it installs
# Debian's PETSc, OpenMPI and parallel HDF5 and a virtual environment .venv with current
# Python packages. With NANOSLIT_PYTHON=/path/to/python, an interpreter that has mpi4py,
# petsc4py and h5py of a cluster's own stack, nothing is installed system-wide.
# A second call checks that all files are still there and returns at once.

_ns_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_ns_venv=$_ns_root/.venv

_ns_runtime=(
  ca-certificates           # pip reaches the package index through it
  python3-venv python3-dev  # the interpreter
  python3-mpi4py python3-petsc4py-real python3-h5py-mpi openmpi-bin
  libopenblas0-pthread      # without it MUMPS runs on the slow reference BLAS
)

_ns_say() { printf 'bootstrap: %s\n' "$*" >&2; }

_ns_key() {  # what the set-up depends on
  { cat "$_ns_root/jobs/bootstrap.sh" "$_ns_root/pyproject.toml"
    echo "$_ns_root ${NANOSLIT_PYTHON:-} $*"; } | sha256sum | cut -d' ' -f1
}

_ns_whole() {  # _ns_whole STAMP: every file listed is still there
  [ -r "$1" ] && tail -n +2 "$1" | xargs -d '\n' -r stat -c '' -- > /dev/null 2>&1
}

_ns_complete() {  # _ns_complete STAMP KEY: whole, and nothing it depends on has changed
  local key
  [ -r "$1" ] && read -r key < "$1" && [ "$key" = "$2" ] && _ns_whole "$1"
}

_ns_stamp() {  # _ns_stamp STAMP KEY < list of files; written last, in one piece
  { echo "$2"; cat; } > "$1.part" && mv "$1.part" "$1"
}

# --- Debian packages ------------------------------------------------------------

_ns_files() {  # programs and libraries of installed Debian packages
  dpkg -L "$@" 2> /dev/null | grep -E '^/(usr/)?(bin|lib|sbin)/' |
    while IFS= read -r f; do if [ -f "$f" ]; then printf '%s\n' "$f"; fi; done
}

_ns_incomplete() {  # packages that are not installed, or that lost a file
  local package
  for package in "$@"; do
    if ! _ns_installed "$package"; then printf '%s\n' "$package"; fi
  done
}

_ns_installed() {
  local lost
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" = installed ] || return
  # mpiexec is a link that belongs to no package
  [ "$1" != openmpi-bin ] || command -v mpiexec > /dev/null || return
  lost=$(dpkg -L "$1" | grep -E '^/(usr/)?(bin|lib|sbin)/' |
    xargs -d '\n' -r stat -c '' -- 2>&1 > /dev/null || true)
  [ -z "$lost" ]
}

_ns_apt() {  # install the packages given, or say what the administrator must do
  local missing rights=() log
  if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
    _ns_say "this is not Debian; set NANOSLIT_PYTHON to a Python with mpi4py, petsc4py and h5py"
    return 3
  fi
  mapfile -t missing < <(_ns_incomplete "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  local command=(apt-get install -y --no-install-recommends --reinstall "${missing[@]}")
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2> /dev/null; then
      _ns_say "missing Debian packages; ask an administrator for: apt-get update && ${command[*]}"
      return 3
    fi
    rights=(sudo -n)
  fi
  _ns_say "installing Debian packages: ${missing[*]}"
  log=$(mktemp)
  if ! { ${rights[@]+"${rights[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get update &&
    ${rights[@]+"${rights[@]}"} env DEBIAN_FRONTEND=noninteractive "${command[@]}"; } \
    < /dev/null > "$log" 2>&1; then
    tail -n 5 "$log" >&2
    _ns_say "apt-get failed (full log: $log); is there a network? By hand: ${command[*]}"
    return 3
  fi
  rm -f "$log"
}

# --- Python environment ---------------------------------------------------------

_ns_new_venv() {
  local base=$1 site numpy
  rm -rf "$_ns_venv"
  "$base" -m venv --system-site-packages "$_ns_venv" || return 1
  site=$("$_ns_venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  # these belong to the MPI of the machine; a wheel from the index would bring another one
  printf '%s; sys_platform == "never"\n' mpi4py h5py petsc4py > "$_ns_venv/overrides.txt"
  if [ -n "${NANOSLIT_PYTHON:-}" ]; then
    "$base" -c 'import os, sys
print(*(p for p in sys.path if p.endswith("-packages") and os.path.isdir(p)), sep="\n")' \
      > "$site/cluster.pth"
  else
    # Debian keeps petsc4py outside the module path
    find /usr/lib/petscdir -path '*-real/lib/python3/dist-packages' -prune |
      grep '/petsc3' | sort -V | tail -n 1 > "$site/petsc4py.pth"
  fi
  # compiled h5py and petsc4py need the numpy generation they were built with
  numpy=$("$base" -c 'import numpy; print(numpy.__version__.split(".")[0])') || return 1
  echo "numpy<$((numpy + 1))" > "$_ns_venv/constraints.txt"
  echo "$base" > "$_ns_venv/base.txt"
}

_ns_python_packages() {
  local log=$_ns_venv/install.log
  _ns_say "installing Python packages into .venv"
  { { [ -x "$_ns_venv/bin/uv" ] || "$_ns_venv/bin/python" -m pip install -q --retries 1 --ignore-installed uv; } &&
    cd "$_ns_root" &&
    "$_ns_venv/bin/uv" pip install --python "$_ns_venv/bin/python" \
      --overrides "$_ns_venv/overrides.txt" --constraints "$_ns_venv/constraints.txt" \
      --editable '.[all]' --group dev; } < /dev/null > "$log" 2>&1 || {
    grep -v WARNING "$log" | tail -n 3 >&2
    _ns_say "installing Python packages failed (full log: $log); is there a network?"
    return 3
  }
  "$_ns_venv/bin/python" -c \
    'import numpy, scipy, h5py, mpi4py, petsc4py, numba, dask, deap, nanoslit'
}

_ns_check_cluster_python() {
  "$1" -c 'import numpy, mpi4py, petsc4py, h5py' 2> /dev/null || {
    _ns_say "NANOSLIT_PYTHON=$1 must be a Python that imports numpy, mpi4py, petsc4py and h5py"
    return 3
  }
}

_ns_debian_ready() {
  [ -n "${NANOSLIT_PYTHON:-}" ] || _ns_complete "$_ns_venv/.debian.stamp" "$1"
}

_ns_setup() {  # another process may have done it while this one waited for the lock
  local base=${NANOSLIT_PYTHON:-/usr/bin/python3}
  if [ -n "${NANOSLIT_PYTHON:-}" ]; then
    _ns_check_cluster_python "$base" || return
  elif ! _ns_debian_ready "$1"; then
    _ns_apt "${_ns_runtime[@]}" || return
  fi
  if ! _ns_complete "$_ns_venv/.stamp" "$1"; then
    # a whole environment is brought up to date, anything else is built anew
    { _ns_whole "$_ns_venv/.stamp" && grep -qxF "$base" "$_ns_venv/base.txt"; } ||
      _ns_new_venv "$base" || return
    (_ns_python_packages) || return
    { find "$_ns_venv" -type f ! -name '*.pyc' ! -name '.*stamp*'
      find "$_ns_venv/bin" -type l; } | _ns_stamp "$_ns_venv/.stamp" "$1"
  fi
  if ! _ns_debian_ready "$1"; then
    { _ns_files "${_ns_runtime[@]}"; command -v mpiexec; } |
      _ns_stamp "$_ns_venv/.debian.stamp" "$1"
  fi
}

_ns_setup_tests() {  # without rights the tests that need these packages are skipped
  if _ns_apt "$@"; then
    _ns_files "$@" | _ns_stamp "$_ns_venv/.tests.stamp" "$_ns_tests_key"
  else
    _ns_say "going on without them: the tests that need them will be skipped"
  fi
}

_ns_locked() {  # _ns_locked COMMAND...: one set-up at a time in this checkout
  local fd
  exec {fd}> "$_ns_root/.venv.lock" || return 1
  if ! flock -n "$fd"; then
    _ns_say "another set-up is running in this checkout; waiting for it"
    flock "$fd"
  fi
  local code=0
  "$@" {fd}>&- || code=$?
  exec {fd}>&-
  return "$code"
}

# --- run environment ------------------------------------------------------------

_ns_environment() {
  export PATH="$_ns_venv/bin:$PATH" VIRTUAL_ENV=$_ns_venv
  export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  # inside an allocation the scheduler decides where ranks go
  [ -z "${SLURM_JOB_ID:-}${PBS_JOBID:-}${LSB_JOBID:-}${JOB_ID:-}" ] || return 0
  export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
  export OMPI_MCA_btl_vader_single_copy_mechanism=none
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
}

_ns_bootstrap() {
  local key packages
  key=$(_ns_key)
  { _ns_complete "$_ns_venv/.stamp" "$key" && _ns_debian_ready "$key"; } ||
    _ns_locked _ns_setup "$key" || return
  if [ "${1:-}" = --tests ] && [ -z "${NANOSLIT_PYTHON:-}" ]; then
    mapfile -t packages < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$_ns_root/tests/debian.txt")
    _ns_tests_key=$(_ns_key "${packages[@]}")
    _ns_complete "$_ns_venv/.tests.stamp" "$_ns_tests_key" ||
      _ns_locked _ns_setup_tests "${packages[@]}" || return
  fi
  _ns_environment
}

_ns_bootstrap "${1:-}" || {
  _ns_code=$?
  # shellcheck disable=SC2317  # exit is reached when this file is called, not sourced
  return "$_ns_code" 2> /dev/null || exit "$_ns_code"
}
