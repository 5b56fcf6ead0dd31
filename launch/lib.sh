# shellcheck shell=bash
# What the launchers share: options, errors, and commands that a dry run prints instead of running them.
# A launcher fills OPTION with its options and their defaults, then calls parse_options "$@".  Everything runs
# in the repository's root.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A OPTION
COMMAND='' DRY_RUN=false FLAGS=()

die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# The launcher's leading comment is its manual.
usage() {
  sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "launch/$(basename "$0")"
}

# COMMAND [--option=value ...] [--dry_run] [-- flags of the experiment]
parse_options() {
  local name
  while (($#)); do
    case $1 in
      --help) usage; exit 0 ;;
      --dry_run) DRY_RUN=true ;;
      --check_memory)
        [[ -v OPTION[check_memory] ]] || die "--check_memory compiles for TPUs, which this launcher has none of"
        OPTION[check_memory]=yes
        ;;
      --) shift; FLAGS=("$@"); break ;;
      --*=*)
        name=${1%%=*} name=${name#--}
        [[ -v OPTION[$name] ]] || die "unknown option --$name; there are $(known_options)"
        OPTION[$name]=${1#*=}
        ;;
      -*) die "unknown option $1; options are --name=value, --dry_run and --help" ;;
      *)
        [[ -z $COMMAND ]] || die "unexpected argument '$1'; flags of the experiment come after --"
        COMMAND=$1
        ;;
    esac
    shift
  done
}

known_options() {
  printf -- '--%s\n' "${!OPTION[@]}" | sort | paste -sd ' '
}

# need NAME...: these options must have a value.
need() {
  local name
  for name in "$@"; do
    [[ -n ${OPTION[$name]} ]] || die "$COMMAND needs --$name=..."
  done
}

# need_counts NAME...: these options must be whole numbers above 0.
need_counts() {
  local name
  for name in "$@"; do
    [[ ${OPTION[$name]} =~ ^[1-9][0-9]*$ ]] || die "--$name is '${OPTION[$name]}'; give a whole number above 0"
  done
}

# Words as a shell reads them back, quoted where they must be.
quoted() {
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+~{}-]+$ ]] || word=${word@Q}
    line+="$word "
  done
  printf '%s' "${line% }"
}

# Runs a command, or prints it.
run() {
  if $DRY_RUN; then
    quoted "$@"
    echo
  else
    "$@"
  fi
}

# check_memory SLICE [COUNT]: with --check_memory, compiles the run for COUNT such slices, and ends if a chip has not the
# memory.  It needs libtpu on this machine (the extra tpu-compile), and no TPU.  A dry run prints the command.
check_memory() {
  local i flag what=train settings=()
  [[ ${OPTION[experiment]} != bridges && ${OPTION[experiment]} != prune ]] || what=${OPTION[experiment]}
  for ((i = 0; i < ${#FLAGS[@]}; i++)); do
    flag=${FLAGS[i]}
    [[ $flag == --config || $flag == --config[=.]* ]] || continue
    settings+=("$flag")
    if [[ $flag != *=* && -v FLAGS[i+1] && ${FLAGS[i + 1]} != -* ]]; then
      settings+=("${FLAGS[++i]}") # its value is a word of its own
    fi
  done
  if [[ ${OPTION[check_memory]} == no ]]; then
    $DRY_RUN && [[ -n $1 && ${#FLAGS[@]} -gt 0 ]] || return 0
    echo "# with --check_memory first:"
    printf '# '
  elif ((!${#FLAGS[@]})); then
    die "--check_memory compiles the run that stands after --, and none does; give its flags: -- --config=FILE"
  elif [[ $what == prune && ${#settings[@]} -eq 0 ]]; then
    die "--check_memory does not know the model in a workdir; give its configuration after --: --config=FILE"
  fi
  run python3 -m experiments.compile "--topology=$1" "--num_slices=${2:-1}" "--what=$what" "${settings[@]}"
}

# The experiment as one line of shell, its flags quoted.
experiment() {
  quoted "$@" -m "experiments.${OPTION[experiment]}" "${FLAGS[@]}"
}

# Fetches the program from its repository, as a line of shell.
clone() {
  quoted git clone --depth=1 "--branch=${OPTION[ref]}" "https://github.com/${OPTION[owner]}/circuits_jax"
}

# array_bounds: "FIRST LAST" of --array=FIRST-LAST.
array_bounds() {
  [[ ${OPTION[array]} =~ ^(0|[1-9][0-9]*)-(0|[1-9][0-9]*)$ ]] || die "--array is '${OPTION[array]}'; give FIRST-LAST, such as 0-14"
  ((BASH_REMATCH[1] <= BASH_REMATCH[2])) || die "--array is '${OPTION[array]}'; its first index is above its last"
  echo "${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
}

# need_shared_workdir: the disks of the workers are their own, and go with them.
need_shared_workdir() {
  local flag
  for flag in "${FLAGS[@]}"; do
    [[ $flag != --workdir=*://* && $flag != --workdir=/* ]] || return 0
  done
  die "$COMMAND needs, after --, a --workdir that all workers see: gs://BUCKET/RUN, or the path of a shared disk"
}

# need_index_in_flags: every element of an array must have a configuration and a workdir of its own, or be a point
# of one list (--points={}), whose workdir all share.
need_index_in_flags() {
  local name flag
  for flag in "${FLAGS[@]}"; do
    [[ $flag != --points={} ]] || return 0
  done
  for name in config workdir; do
    for flag in "${FLAGS[@]}"; do
      [[ $flag != "--$name="*{}* ]] || continue 2
    done
    die "in a sweep --$name must hold {}, which stands for the index"
  done
}
