#!/usr/bin/env bash
# Several hosts with a Ray node each on one Linux machine: network namespaces on one bridge. Wants root.
set -euo pipefail

usage() {
  cat >&2 <<'END'
usage: local-multinode.sh up N                  hosts 1 to N with a Ray node of one CPU each, 1 the head; adds what is missing
       local-multinode.sh exec HOST CMD …       run CMD on a host, with address and token of the cluster
       local-multinode.sh kill-node HOST        SIGKILL to every process of a host; `up` starts it again
       local-multinode.sh cut-off HOST          unplug it, its processes alive; `up` plugs it in again
       local-multinode.sh drain HOST SECONDS    tell Ray that the host will be taken away, as a cloud does before it does so
       local-multinode.sh down                  end everything; remove hosts and bridge
environment: RAY, the command (.venv/bin/ray of this checkout); OBJECT_STORE_MB of each node (100)
END
  exit 2
}

fail() {
  echo "local-multinode.sh: $*" >&2
  exit 1
}

checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
ray="${RAY:-$checkout/.venv/bin/ray}"
readonly checkout ray prefix=span bridge=spanbr0 subnet=10.77.0
readonly state=/tmp/span-hosts # sockets lie below it, and their paths have to be short
readonly address=$subnet.1:6379 token=$state/token

# Processes of a host, whoever started them; nothing if there is no such host.
processes() { ip netns pids "$prefix$1" 2>/dev/null || true; }

raylet() {
  local pid
  for pid in $(processes "$1"); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != raylet ] || echo "$pid"
  done
}

# Becomes the command: the process id stays.
become_on_host() {
  local host=$1
  shift
  exec ip netns exec "$prefix$host" env \
    RAY_ADDRESS="$address" RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token" \
    RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 GLOO_SOCKET_IFNAME=eth0 \
    RAY_health_check_initial_delay_ms=1000 RAY_health_check_period_ms=1000 \
    RAY_health_check_timeout_ms=1000 RAY_health_check_failure_threshold=3 "$@"
}

make_host() {
  local host=$1 name=$prefix$1
  if [ -e "/run/netns/$name" ]; then
    ip link set "$name" up # after `cut-off`
    return
  fi
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip link set "$name" master "$bridge" up
  ip -n "$name" addr add "$subnet.$host/24" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" link set lo up
}

start_node() {
  local host=$1 log=$state/host$1.log where=(--address "$address")
  if [ "$host" = 1 ]; then
    where=(--head --port "${address#*:}" --include-dashboard false)
  fi
  : >"$log"
  become_on_host "$host" setsid "$ray" start --block "${where[@]}" --num-cpus 1 \
    --node-ip-address "$subnet.$host" --object-store-memory "$((${OBJECT_STORE_MB:-100} << 20))" \
    --temp-dir "$state/$host" --disable-usage-stats </dev/null >"$log" 2>&1 &
  local pid=$! tries
  for ((tries = 0; tries < 120; tries++)); do
    ! grep -q 'Ray runtime started' "$log" || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 5 "$log" >&2
  fail "host $host: Ray did not start; see $log"
}

up() {
  local host
  [ -x "$ray" ] || fail "$ray is not there; run \`make setup\`, or set RAY to the command"
  if [ ! -d "$state" ]; then
    ! ip link show "$bridge" >/dev/null 2>&1 || fail "$bridge exists without $state; run \`down\`"
    mkdir -m 700 "$state"
    (umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$token")
    ip link add "$bridge" type bridge
    ip addr add "$subnet.254/24" dev "$bridge"
    ip link set "$bridge" up
  fi
  for ((host = 1; host <= $1; host++)); do
    make_host "$host"
    if [ -z "$(raylet "$host")" ]; then
      kill_all "$host"
      start_node "$host"
    fi
  done
}

kill_all() {
  local pids
  while pids=$(processes "$1") && [ -n "$pids" ]; do
    # shellcheck disable=SC2086  # one word for each process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
}

drain() {
  local pid id
  pid=$(raylet "$1")
  [ -n "$pid" ] || fail "host $1 has no Ray node"
  id=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n 's/^--node_id=//p')
  become_on_host 1 "$ray" drain-node --address "$address" --node-id "$id" \
    --reason DRAIN_NODE_REASON_PREEMPTION --reason-message 'taken back' \
    --deadline-remaining-seconds "$2"
}

down() {
  local name
  for name in $(ip netns list | awk '{print $1}' | grep -E "^${prefix}[0-9]+\$" || true); do
    kill_all "${name#"$prefix"}"
    ip link delete "$name" 2>/dev/null || true # at once; with its host it would go a little later
    ip netns delete "$name"
  done
  ip link delete "$bridge" 2>/dev/null || true
  rm -rf "$state"
}

command=${1:-}
is_count() { [[ ${1:-} =~ ^[1-9][0-9]?$ ]]; }
case "$command" in
  up) is_count "${2:-}" && [ $# = 2 ] || usage ;;
  exec) is_count "${2:-}" && [ $# -ge 3 ] || usage ;;
  kill-node | cut-off) is_count "${2:-}" && [ $# = 2 ] || usage ;;
  drain) is_count "${2:-}" && [[ ${3:-} =~ ^[0-9]+$ ]] && [ $# = 3 ] || usage ;;
  down) [ $# = 1 ] || usage ;;
  *) usage ;;
esac
[ "$(id -u)" = 0 ] || fail 'network namespaces want root; try it with sudo'
[ "$command" = up ] || [ "$command" = down ] || [ -e "/run/netns/$prefix$2" ] || fail "there is no host $2; \`up\` makes it"
shift
case "$command" in
  up) up "$1" ;;
  exec) become_on_host "$@" ;;
  kill-node) kill_all "$1" ;;
  cut-off) ip link set "$prefix$1" down ;;
  drain) drain "$1" "$2" ;;
  down) down ;;
esac
