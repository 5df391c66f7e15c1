#!/usr/bin/env bash
# Run a unimo command, or a Python program of yours on the same engine, in one or many processes.
#   bash run_scripts/launch.sh pretrain RECIPE.yaml key=value... --output RUN
#   NPROC=2 bash run_scripts/launch.sh pretrain RECIPE.yaml --output RUN
#   NPROC=8 NNODES=2 MASTER=10.0.0.1:29500 HOST=10.0.0.2 bash run_scripts/launch.sh ...     (the same on every machine)
#   bash run_scripts/launch.sh PROGRAM.py ARGUMENTS... --output RUN
#   bash run_scripts/launch.sh finetune RECIPE.yaml ... --dry-run        (shows the command and checks the recipe)
# Exit codes: 0 done, 2 wrong config or input, 75 stopped by a signal and saved: the same command goes on, 76 non-finite
# loss, others unexpected.
# Variables:
#   NPROC    processes on this machine, one a GPU (default 1)
#   DEVICES  GPUs to use, as 0,1,2,3 (default: all that are visible)
#   NNODES   machines (default 1). With more than one:
#   MASTER   ip:port of one of them; it gets rank 0, which reads and writes the checkpoints
#   HOST     this machine's ip;  GLOO_SOCKET_IFNAME  its interface (default: the one that has HOST; CPU only)
#   LOG_DIR  one log file a process (default RUN/log; with several machines RUN/log/HOST)
set -euo pipefail
NPROC=${NPROC:-1} NNODES=${NNODES:-1}

usage() {
  echo "error: $1" >&2
  exit 2
}
[[ $# -gt 0 ]] || usage "no command; try: bash run_scripts/launch.sh pretrain RECIPE.yaml --output RUN"
[[ $NPROC =~ ^[1-9][0-9]*$ && $NNODES =~ ^[1-9][0-9]*$ ]] || usage "NPROC=$NPROC and NNODES=$NNODES must be 1 or more"
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

run='' previous='' dry=''
for argument in "$@"; do
  [[ $argument == --dry-run ]] && dry=1
  [[ $previous == --output ]] && run=$argument
  [[ $argument == --output=* ]] && run=${argument#--output=}
  previous=$argument
done

if [[ $1 == *.py ]]; then program=(python -u "$@"); else program=(python -u -m unimo.cli "$@"); fi
single=("${program[@]}")
if ((NPROC * NNODES > 1)); then
  log=${LOG_DIR:-${run:-.}/log}
  options=(--log_level WARNING --nproc_per_node "$NPROC")
  [[ -n ${DEVICES:-} ]] && options+=(--devices "$DEVICES")
  if ((NNODES > 1)); then
    [[ -n ${MASTER:-} && -n ${HOST:-} ]] || usage "NNODES=$NNODES needs MASTER=ip:port and HOST=ip of this machine"
    log=${LOG_DIR:-${run:-.}/log/$HOST}
    GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$(ip -o -4 addr show 2>/dev/null | awk -v ip="$HOST" '$4 ~ "^" ip "/" {print $2}')}
    [[ -n $GLOO_SOCKET_IFNAME ]] || usage "no interface has HOST=$HOST; set GLOO_SOCKET_IFNAME"
    export GLOO_SOCKET_IFNAME
    options+=(--master "$MASTER" --nnodes "$NNODES" --host "$HOST")
  fi
  program=(python -m paddle.distributed.launch "${options[@]}" --log_dir "$log" "${program[@]}")
fi
printf 'run:' >&2
printf ' %q' "${program[@]}" >&2
printf '\n' >&2
[[ -z $dry ]] || exec "${single[@]}" # one process checks for all

# Paddle's launcher answers 15 to SIGTERM whatever its workers return, so the run's own word counts (engine/loop.py).
state=${run:+$run/state.json}
[[ -n $state ]] && rm -f "$state" # an earlier run's word
code=0
supervise "${program[@]}" || code=$?

if ((code)); then
  said=$(sed -n 's/.*"exit_code": \([1-9][0-9]*\).*/\1/p' "$state" 2>/dev/null || true)
  code=${said:-$code}
  if [[ -f $state ]] && grep -q '"status": "running"' "$state"; then # a signal or an abort left no time to say so
    sed -i 's/"status": "running"/"status": "killed"/' "$state"
  fi
  if ((NPROC * NNODES > 1 && code == 75)); then # the launcher ends before it has shown this
    printf '%s\n' "$(sed -n 's/.*"message": "rank [0-9]*: \(.*\)", "pid".*/\1/p' "$state")" >&2
  elif ((NPROC * NNODES > 1 && code != 2 && code != 76)); then # it shows one process only, perhaps not the first to end
    for file in "$log"/workerlog.*; do # where it was comes before the traceback, the last lines after it
      printf '==> %s <==\n' "$file"
      { grep '^error: rank ' "$file" || true; } | tail -n 1
      tail -n 5 "$file"
    done >&2
  fi
fi
exit "$code"
