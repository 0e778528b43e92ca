#!/usr/bin/env bash
# A real RabbitMQ for the benchmarks and the routing tests: one node of the Debian package, loopback only, free ports,
# all of its data in one directory, without touching a server that the machine may run as a service.
#
#   rabbitmq.sh install       installs Debian's rabbitmq-server (needs root), and leaves no service running
#   rabbitmq.sh installed     says by its exit status whether there is one
#   rabbitmq.sh start DIR     prints host:port of AMQP 0-9-1 once the broker answers (guest/guest, virtual host /)
#   rabbitmq.sh start DIR web-stomp   the same with the plugin; prints host:port of its WebSocket first (path /ws)
#   rabbitmq.sh stop DIR      ends it (SIGTERM, after 20 s SIGKILL) and waits for that
#
# Settings are RabbitMQ's own, but for the addresses.
set -euo pipefail

server=/usr/lib/rabbitmq/bin/rabbitmq-server
start_seconds=60
stop_seconds=20

fail() { echo "rabbitmq.sh: $*" >&2; exit 1; }

installed() { [ -x "$server" ] && command -v erl >/dev/null; }

install_package() {
    installed && return 0
    [ "$(id -u)" = 0 ] || fail "root is needed to install the package rabbitmq-server"
    command -v apt-get >/dev/null || fail "this machine has no apt-get"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends rabbitmq-server >&2
    if [ -d /run/systemd/system ]; then systemctl disable --now rabbitmq-server >&2 || true; fi
}

free_ports() {
    python3 -c '
import socket
held = [socket.socket() for _ in range(5)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))'
}

running_pid() {       # DIR; prints the pid while it is still the broker of this directory
    local pid
    pid="$(cat "$1/rabbitmq.pid" 2>/dev/null)" || return 1
    { tr '\0' '\n' < "/proc/$pid/environ" | grep -qxF "RABBITMQ_MNESIA_BASE=$1/mnesia"; } 2>/dev/null \
        || return 1
    printf '%s\n' "$pid"
}

start() {
    installed || fail "RabbitMQ is not installed (rabbitmq.sh install)"
    mkdir -p "$1"
    local directory client distribution mapper web stomp
    directory="$(cd "$1" && pwd)"
    running_pid "$directory" >/dev/null && fail "already running in $directory"
    mkdir -p "$directory/mnesia" "$directory/log" "$directory/home"
    read -r client distribution mapper web stomp < <(free_ports)
    : > "$directory/plugins"
    printf 'listeners.tcp.1 = 127.0.0.1:%s\nloopback_users = none\n' "$client" > "$directory/rabbitmq.conf"
    if [ "${2:-}" = web-stomp ]; then
        echo '[rabbitmq_web_stomp].' > "$directory/plugins"
        printf 'web_stomp.tcp.ip = 127.0.0.1\nweb_stomp.tcp.port = %s\nstomp.listeners.tcp.1 = 127.0.0.1:%s\n' \
            "$web" "$stomp" >> "$directory/rabbitmq.conf"
    fi
    printf '%s\n' "$mapper" > "$directory/epmd.port"
    env -i PATH="$PATH" LANG=C.UTF-8 HOME="$directory/home" \
        RABBITMQ_NODENAME="bench-$client@localhost" RABBITMQ_DIST_PORT="$distribution" \
        RABBITMQ_MNESIA_BASE="$directory/mnesia" RABBITMQ_LOG_BASE="$directory/log" \
        RABBITMQ_CONFIG_FILE="$directory/rabbitmq" RABBITMQ_ENABLED_PLUGINS_FILE="$directory/plugins" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$mapper" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
        setsid "$server" > "$directory/rabbitmq.out" 2>&1 < /dev/null &
    local pid=$!
    printf '%s\n' "$pid" > "$directory/rabbitmq.pid"
    local deadline=$((SECONDS + start_seconds))
    until python3 -c '
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1) as one:
    one.sendall(b"AMQP\0\0\x09\x01")
    one.settimeout(2)
    sys.exit(0 if one.recv(1) == b"\x01" else 1)' "$client" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$directory/rabbitmq.out" >&2; fail "the broker ended while starting"; }
        [ "$SECONDS" -lt "$deadline" ] || { stop "$directory"; fail "no answer within $start_seconds s"; }
        sleep 0.2
    done
    if [ "${2:-}" = web-stomp ]; then
        until (exec 3<>"/dev/tcp/127.0.0.1/$web") 2>/dev/null; do
            kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || { stop "$directory"; fail "no Web-STOMP"; }
            sleep 0.2
        done
        printf '127.0.0.1:%s\n' "$web"
    fi
    printf '127.0.0.1:%s\n' "$client"
}

stop() {
    [ -d "$1" ] || return 0
    local directory pid
    directory="$(cd "$1" && pwd)"
    if pid="$(running_pid "$directory")"; then
        kill -TERM -- "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null || true
        local deadline=$((SECONDS + stop_seconds))
        while running_pid "$directory" >/dev/null; do
            [ "$SECONDS" -lt "$deadline" ] || kill -KILL -- "-$pid" 2>/dev/null || true
            sleep 0.1
        done
    fi
    if [ -f "$directory/epmd.port" ]; then
        ERL_EPMD_PORT="$(cat "$directory/epmd.port")" epmd -kill >/dev/null 2>&1 || true
    fi
    rm -f "$directory/rabbitmq.pid" "$directory/epmd.port"
}

case "${1:-}" in
    install) install_package ;;
    installed) installed ;;
    start) [ $# -eq 2 ] || [ $# -eq 3 ] || fail "usage: rabbitmq.sh start DIR [web-stomp]"; start "$2" "${3:-}" ;;
    stop) [ $# -eq 2 ] || fail "usage: rabbitmq.sh stop DIR"; stop "$2" ;;
    *) fail "usage: rabbitmq.sh install | installed | start DIR [web-stomp] | stop DIR" ;;
esac
