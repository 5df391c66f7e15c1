# shellcheck shell=bash
# Environment of every script here. Source it: it finds the repository from its own place, uses the active virtual
# environment (else $VENV, default .venv in the repository), and sets what Paddle needs, unless you set it before.
UNIMO_REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export UNIMO_REPO
if [[ -z ${VIRTUAL_ENV:-} && -f ${VENV:-$UNIMO_REPO/.venv}/bin/activate ]]; then
  # shellcheck disable=SC1091
  source "${VENV:-$UNIMO_REPO/.venv}/bin/activate"
fi
# The MKL in Paddle's CPU wheel takes a slow path on AMD processors unless told otherwise.
if grep -qs 'vendor_id.*AuthenticAMD' /proc/cpuinfo; then # 7: its AVX-512 kernels, 5: AVX2's
  avx512=$(grep -qsm1 '^flags.* avx512f' /proc/cpuinfo && echo 7 || echo 5)
  export MKL_DEBUG_CPU_TYPE=${MKL_DEBUG_CPU_TYPE:-$avx512}
  unset avx512
fi
if ! [[ ${NPROC:-1} =~ ^[1-9][0-9]*$ ]]; then
  echo "error: NPROC=$NPROC must be a whole number from 1 on" >&2
  exit 2
fi
# Paddle takes one thread when nothing is set; share the cores between the processes of this machine.
threads=$(($(nproc) / ${NPROC:-1}))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
unset threads
# Paddle warns at every start of what is no fault here: no compiler cache, and ranks that are in no group yet. Its errors
# still show.
export GLOG_minloglevel=${GLOG_minloglevel:-2}
export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:No ccache found,ignore:Current global rank"

# Run a command in a process group of its own, so that Ctrl-C reaches the script alone, and pass the first TERM, INT or
# HUP on to it as TERM. Returns its exit code; `stopped` tells whether there was a signal.
# shellcheck disable=SC2034 # who sources this looks at it
stopped=0
supervise() {
  local job='' code=0
  # set before there is anything that a signal could leave running
  trap 'if [[ -n $job ]] && ! ((stopped)); then kill -TERM "$job" 2>/dev/null || true; fi; stopped=1' TERM INT HUP
  set -m
  "$@" &
  job=$!
  set +m
  if ((stopped)); then kill -TERM "$job" 2>/dev/null || true; fi
  while kill -0 "$job" 2>/dev/null; do
    wait "$job" || true # a signal ends it early
  done
  wait "$job" || code=$?
  trap - TERM INT HUP
  return "$code"
}

# Print a command, run it as `supervise` does, and tell how long it took. After a signal the script ends with 75: what ran
# has saved, and no later step may start.
step() {
  printf '\n== %s\n' "$*"
  local start=$SECONDS
  supervise "$@"
  ((stopped)) && exit 75
  printf '== done in %d s\n' $((SECONDS - start))
}
# A step of launch.sh in as many processes as the script's variable `processes` says, each with its share of the cores.
# shellcheck disable=SC2154
launch() { step env -u OMP_NUM_THREADS NPROC="$processes" bash "$UNIMO_REPO/run_scripts/launch.sh" "$@"; }
