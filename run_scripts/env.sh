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
if grep -qs 'vendor_id.*AuthenticAMD' /proc/cpuinfo; then
  export MKL_DEBUG_CPU_TYPE=${MKL_DEBUG_CPU_TYPE:-5}
fi
if ! [[ ${NPROC:-1} =~ ^[1-9][0-9]*$ ]]; then
  echo "error: NPROC=$NPROC must be a whole number from 1 on" >&2
  exit 2
fi
# Paddle takes one thread when nothing is set; share the cores between the processes of this machine.
threads=$(($(nproc) / ${NPROC:-1}))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
unset threads
# Paddle's C++ side warns at every start of several processes; its errors still show.
export GLOG_minloglevel=${GLOG_minloglevel:-2}
