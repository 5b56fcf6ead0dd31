#!/usr/bin/env bash
# Trains on one machine with GPUs: in the foreground, as a systemd service, or a sweep through GNU parallel.
#
#   launch/gpu_box.sh install
#   launch/gpu_box.sh run   -- --config=FILE --workdir=runs/R
#   launch/gpu_box.sh start --name=N -- --config=FILE --workdir=runs/R      restarted when it fails
#   launch/gpu_box.sh sweep --name=N --array=0-14 [--gpus=8] -- --config=FILE:{} --workdir=runs/S/{}
#   launch/gpu_box.sh logs  --name=N
#   launch/gpu_box.sh stop  --name=N      saves and ends
#
# --dry_run prints the commands.  {} stands for the index.  A sweep gives each run one GPU; called again it goes on
# with what is not finished (logs/N.tsv).
source "$(dirname "$0")/lib.sh"

OPTION=([name]='' [array]='' [gpus]=1 [experiment]=pretrain)
readonly PYTHON=.venv/bin/python

start() {
  run systemd-run --user --collect "--unit=${OPTION[name]}" "--working-directory=$PWD" \
    --property=Restart=on-failure --property=RestartSec=20 --property=TimeoutStopSec=120 \
    --property=StartLimitIntervalSec=3600 --property=StartLimitBurst=20 --property=SuccessExitStatus=143 \
    "$PWD/$PYTHON" -m "experiments.${OPTION[experiment]}" "${FLAGS[@]}"
}

sweep() {
  need name array
  need_counts gpus
  need_index_in_flags
  local bounds indices
  bounds=$(array_bounds)
  mapfile -t indices < <(seq "${bounds% *}" "${bounds#* }")
  run mkdir -p logs
  run parallel "--jobs=${OPTION[gpus]}" "--joblog=logs/${OPTION[name]}.tsv" --resume-failed --termseq=TERM,120000,KILL \
    "CUDA_VISIBLE_DEVICES={= \$_ = slot() - 1 =} $(experiment "$PYTHON")" ::: "${indices[@]}"
}

main() {
  parse_options "$@"
  case $COMMAND in
    install | run | sweep) ;;
    start | logs | stop) need name ;;
    '') usage; exit 2 ;;
    *) die "unknown command '$COMMAND'; choose install, run, start, sweep, logs or stop" ;;
  esac
  case $COMMAND in
    install)
      run python3 -m venv .venv
      run .venv/bin/pip install -e '.[gpu]'
      ;;
    run) run "$PYTHON" -m "experiments.${OPTION[experiment]}" "${FLAGS[@]}" ;;
    start) start ;;
    sweep) sweep ;;
    logs) run journalctl --user "--unit=${OPTION[name]}" --output=cat --follow ;;
    stop) run systemctl --user stop "${OPTION[name]}" ;;
  esac
}

main "$@"
