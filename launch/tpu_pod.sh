#!/usr/bin/env bash
# Trains on a TPU VM pod slice, through gcloud's queued resources and systemd on the workers.
#
#   launch/tpu_pod.sh create  --name=N --zone=Z --accelerator_type=v5litepod-16 [--spot=yes]
#   launch/tpu_pod.sh status  --name=N --zone=Z
#   launch/tpu_pod.sh wait    --name=N --zone=Z      until the slice is there
#   launch/tpu_pod.sh install --name=N --zone=Z --owner=GITHUB_OWNER [--ref=main]
#   launch/tpu_pod.sh run     --name=N --zone=Z -- --config=FILE --workdir=gs://BUCKET/RUN
#   launch/tpu_pod.sh logs    --name=N --zone=Z      those of worker 0
#   launch/tpu_pod.sh stop    --name=N --zone=Z      saves and ends
#   launch/tpu_pod.sh restart ...                    after a preemption: delete, create, wait, install, run
#   launch/tpu_pod.sh delete  --name=N --zone=Z
#
# --dry_run prints the commands.  restart takes the options of all that it does.  --check_memory, for create, run and
# restart, first compiles the run that stands after -- for --accelerator_type, here, and ends if it does not fit.
source "$(dirname "$0")/lib.sh"

OPTION=([name]='' [zone]='' [project]='' [accelerator_type]='' [runtime_version]=v2-alpha-tpuv5-lite [spot]=no
  [owner]='' [ref]=main [experiment]=pretrain [check_memory]=no)
readonly UNIT=circuits_jax

# gcloud's tpus commands, with the options that all of them take.
tpus() {
  local place=("--zone=${OPTION[zone]}")
  [[ -z ${OPTION[project]} ]] || place+=("--project=${OPTION[project]}")
  run gcloud compute tpus "$@" "${place[@]}"
}

# on_workers WHICH LINE: runs a line of shell on worker 0, or on all of them.
on_workers() {
  tpus tpu-vm ssh "${OPTION[name]}" "--worker=$1" "--command=$2"
}

create() {
  need accelerator_type
  local spot=()
  [[ ${OPTION[spot]} == no ]] || spot=(--spot)
  tpus queued-resources create "${OPTION[name]}" "--node-id=${OPTION[name]}" \
    "--accelerator-type=${OPTION[accelerator_type]}" "--runtime-version=${OPTION[runtime_version]}" "${spot[@]}"
}

describe() {
  tpus queued-resources describe "${OPTION[name]}" '--format=value(state.state)'
}

wait_until_active() {
  local state
  if $DRY_RUN; then
    describe
    return
  fi
  until state=$(describe) && [[ $state == ACTIVE ]]; do
    echo "${OPTION[name]}: $state"
    [[ $state != FAILED && $state != SUSPENDED ]] || die "the slice ${OPTION[name]} is $state; restart makes it anew"
    sleep 30
  done
}

# The VMs' own Python is older than 3.11, which circuits_jax needs.
install() {
  need owner
  on_workers all "$(
    printf '%s && ' \
      'sudo apt-get update' \
      'sudo apt-get install --yes python3.11-venv' \
      "rm -rf $UNIT" \
      "$(clone)" \
      'python3.11 -m venv venv'
    printf "venv/bin/pip install -e '%s[tpu]'" "$UNIT"
  )"
}

# A worker that fails takes the others with it, and systemd starts all of them again: they go on from the last
# checkpoint.  When the VM is shut down systemd sends SIGTERM and waits for the run to save.
start() {
  need_shared_workdir
  FLAGS=(--distributed "${FLAGS[@]}")
  local service=(
    sudo systemd-run --collect "--unit=$UNIT" "--uid=\$USER" "--working-directory=\$HOME/$UNIT"
    --property=Restart=on-failure --property=RestartSec=20 --property=TimeoutStopSec=120
    --property=StartLimitIntervalSec=3600 --property=StartLimitBurst=20 --property=SuccessExitStatus=143
  )
  on_workers all "${service[*]} \$HOME/$(experiment venv/bin/python)"
}

main() {
  parse_options "$@"
  case $COMMAND in
    create | status | wait | install | run | logs | stop | restart | delete) need name zone ;;
    '') usage; exit 2 ;;
    *) die "unknown command '$COMMAND'; choose create, status, wait, install, run, logs, stop, restart or delete" ;;
  esac
  case $COMMAND in
    create | run | restart)
      [[ ${OPTION[check_memory]} == no ]] || need accelerator_type
      check_memory "${OPTION[accelerator_type]}"
      ;;
  esac
  case $COMMAND in
    create) create ;;
    status) describe ;;
    wait) wait_until_active ;;
    install) install ;;
    run) start ;;
    logs) on_workers 0 "journalctl --unit=$UNIT --output=cat --follow" ;;
    stop) on_workers all "sudo systemctl stop $UNIT" ;;
    delete) tpus queued-resources delete "${OPTION[name]}" --force --quiet ;;
    restart)
      need accelerator_type owner
      need_shared_workdir
      tpus queued-resources delete "${OPTION[name]}" --force --quiet
      create
      wait_until_active
      install
      start
      ;;
  esac
}

main "$@"
