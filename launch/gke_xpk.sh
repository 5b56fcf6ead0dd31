#!/usr/bin/env bash
# Trains on GKE: one run as a JobSet through xpk, a sweep as an Indexed Job of Kubernetes.
#
#   launch/gke_xpk.sh create --cluster=C --tpu_type=v5litepod-16 [--num_slices=1] [--spot=yes]
#   launch/gke_xpk.sh run    --cluster=C --tpu_type=v5litepod-16 --name=N --owner=GITHUB_OWNER
#                            -- --config=FILE --workdir=gs://BUCKET/RUN
#   launch/gke_xpk.sh sweep  --cluster=C --name=N --owner=GITHUB_OWNER --array=0-14 [--at_once=4]
#                            -- --config=FILE:{} --workdir=gs://BUCKET/SWEEP/{}
#   launch/gke_xpk.sh status --cluster=C
#   launch/gke_xpk.sh logs   --cluster=C --name=N        those of a run; logs_sweep of a sweep
#   launch/gke_xpk.sh logs_sweep --cluster=C --name=N
#   launch/gke_xpk.sh stop   --cluster=C --name=N        ends a run; stop_sweep a sweep
#   launch/gke_xpk.sh stop_sweep --cluster=C --name=N
#   launch/gke_xpk.sh delete --cluster=C             the whole cluster
#
# --dry_run prints the commands.  --check_memory, for create and run, first compiles the run that stands after -- for
# --tpu_type, here, and ends if it does not fit.  {} stands for the index.  A sweep's elements each take one host of
# --accelerator and --topology.  Kubernetes restarts what fails or is preempted; a run goes on from its checkpoint.
source "$(dirname "$0")/lib.sh"

OPTION=([cluster]='' [name]='' [zone]='' [project]='' [tpu_type]='' [num_slices]=1 [spot]=no [max_restarts]=50
  [image]=python:3.12 [owner]='' [ref]=main [array]='' [at_once]=4 [accelerator]=tpu-v5-lite-podslice
  [topology]=2x4 [chips]=8 [experiment]=pretrain [check_memory]=no)

# xpk's commands, with the options that all of them take.
xpk_in_place() {
  local place=("--cluster=${OPTION[cluster]}") name
  for name in zone project; do
    [[ -z ${OPTION[$name]} ]] || place+=("--$name=${OPTION[$name]}")
  done
  run xpk "$@" "${place[@]}"
}

create() {
  need tpu_type
  need_counts num_slices
  local capacity=--on-demand
  [[ ${OPTION[spot]} == no ]] || capacity=--spot
  xpk_in_place cluster create "--tpu-type=${OPTION[tpu_type]}" "--num-slices=${OPTION[num_slices]}" "$capacity"
}

# What a container does.  exec: SIGTERM must reach Python, not the shell.
container_line() {
  printf "%s && cd circuits_jax && pip install -e '.[tpu]' && exec %s" "$(clone)" "$(experiment python)"
}

# 1 is also what the processes end with when one of them is gone; 143, stopped and saved, is restarted anyway.
start() {
  need tpu_type owner
  need_counts num_slices max_restarts
  need_shared_workdir
  FLAGS=(--distributed "${FLAGS[@]}")
  xpk_in_place workload create "--workload=${OPTION[name]}" "--tpu-type=${OPTION[tpu_type]}" \
    "--num-slices=${OPTION[num_slices]}" "--docker-image=${OPTION[image]}" \
    "--max-restarts=${OPTION[max_restarts]}" --restart-on-exit-codes=1 --termination-grace-period-seconds=120 \
    "--command=$(container_line)"
}

# The Indexed Job: completion index i, which Kubernetes puts in, is element i of the array.
manifest() {
  local last=$1 line
  line=$(container_line)
  line=${line//\{\}/\$(JOB_COMPLETION_INDEX)}
  line=${line//\\/\\\\} # In double quotes, YAML escapes as JSON does.
  cat <<YAML
apiVersion: batch/v1
kind: Job
metadata:
  name: ${OPTION[name]}
spec:
  completionMode: Indexed
  completions: $((last + 1))
  parallelism: ${OPTION[at_once]}
  backoffLimitPerIndex: ${OPTION[max_restarts]}
  podFailurePolicy:
    rules:
    - action: Ignore
      onPodConditions:
      - type: DisruptionTarget
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 120
      nodeSelector:
        cloud.google.com/gke-tpu-accelerator: ${OPTION[accelerator]}
        cloud.google.com/gke-tpu-topology: ${OPTION[topology]}
      containers:
      - name: train
        image: ${OPTION[image]}
        command: ["bash", "-c", "${line//\"/\\\"}"]
        resources:
          limits:
            google.com/tpu: ${OPTION[chips]}
YAML
}

sweep() {
  need owner array
  need_counts at_once max_restarts chips
  need_shared_workdir
  local bounds
  bounds=$(array_bounds)
  [[ ${bounds% *} == 0 ]] || die "--array is '${OPTION[array]}'; an Indexed Job counts from 0"
  need_index_in_flags
  if $DRY_RUN; then
    printf 'kubectl apply -f - <<"YAML"\n%s\nYAML\n' "$(manifest "${bounds#* }")"
  else
    manifest "${bounds#* }" | kubectl apply -f -
  fi
}

# logs LABEL: follows all pods whose LABEL is the name.
logs() {
  run kubectl logs --follow --prefix --max-log-requests=64 "--selector=$1=${OPTION[name]}"
}

main() {
  parse_options "$@"
  case $COMMAND in
    create | status | delete) need cluster ;;
    run | sweep | logs | logs_sweep | stop | stop_sweep) need cluster name ;;
    '') usage; exit 2 ;;
    *) die "unknown command '$COMMAND'; choose create, run, sweep, status, logs, logs_sweep, stop, stop_sweep or delete" ;;
  esac
  case $COMMAND in
    create | run)
      [[ ${OPTION[check_memory]} == no ]] || need tpu_type
      check_memory "${OPTION[tpu_type]}" "${OPTION[num_slices]}"
      ;;
    sweep)
      [[ ${OPTION[check_memory]} == no ]] || die "--check_memory compiles one run; check one of the sweep's with run"
      ;;
  esac
  case $COMMAND in
    create) create ;;
    run) start ;;
    sweep) sweep ;;
    status) xpk_in_place workload list ;;
    logs) logs jobset.sigs.k8s.io/jobset-name ;;
    logs_sweep) logs batch.kubernetes.io/job-name ;;
    stop) xpk_in_place workload delete "--workload=${OPTION[name]}" ;;
    stop_sweep) run kubectl delete job "${OPTION[name]}" ;;
    delete) xpk_in_place cluster delete ;;
  esac
}

main "$@"
