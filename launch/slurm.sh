#!/usr/bin/env bash
# Trains on a SLURM cluster, one process a GPU.
#
#   launch/slurm.sh install
#   launch/slurm.sh run   --name=N [--nodes=2] [--gpus=8] [--time=24:00:00] -- --config=FILE --workdir=runs/R
#   launch/slurm.sh sweep --name=N --array=0-14 [--at_once=4] [--gpus=1] -- --config=FILE:{} --workdir=runs/S/{}
#   launch/slurm.sh status --name=N
#   launch/slurm.sh logs  --name=N
#   launch/slurm.sh stop  --name=N      saves and ends
#
# --dry_run prints the commands.  {} stands for the index.  --gpus counts those of a node.  Give partition, account
# and what else your cluster wants in SBATCH_PARTITION, SBATCH_ACCOUNT and so on, which sbatch reads.
source "$(dirname "$0")/lib.sh"

OPTION=([name]='' [nodes]=1 [gpus]=1 [time]=24:00:00 [array]='' [at_once]=4 [experiment]=pretrain)

# submit OPTIONS...: hands the job to sbatch.
submit() {
  need_counts nodes gpus
  ((OPTION[nodes] * OPTION[gpus] == 1)) || FLAGS=(--distributed "${FLAGS[@]}")
  run mkdir -p logs
  run sbatch "--job-name=${OPTION[name]}" "--nodes=${OPTION[nodes]}" "--ntasks-per-node=${OPTION[gpus]}" \
    "--gpus-per-node=${OPTION[gpus]}" "--time=${OPTION[time]}" --signal=TERM@180 --requeue --open-mode=append \
    "$@" launch/slurm_job.sh "experiments.${OPTION[experiment]}" "${FLAGS[@]}"
}

sweep() {
  need array
  need_counts at_once
  array_bounds >/dev/null
  need_index_in_flags
  submit "--output=logs/%x-%a.log" "--array=${OPTION[array]}%${OPTION[at_once]}"
}

main() {
  parse_options "$@"
  case $COMMAND in
    install) ;;
    run | sweep | status | logs | stop) need name ;;
    '') usage; exit 2 ;;
    *) die "unknown command '$COMMAND'; choose install, run, sweep, status, logs or stop" ;;
  esac
  case $COMMAND in
    install)
      run python3 -m venv .venv
      run .venv/bin/pip install -e '.[gpu]'
      ;;
    run) submit "--output=logs/%x.log" ;;
    sweep) sweep ;;
    status) run squeue --me "--name=${OPTION[name]}" ;;
    logs) run tail -n 50 -F logs/"${OPTION[name]}"*.log ;;
    stop) run scancel --me "--name=${OPTION[name]}" ;;
  esac
}

main "$@"
