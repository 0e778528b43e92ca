#!/usr/bin/env bash
# A real Apache Kafka for the benchmarks: one node in KRaft combined mode, loopback only, free ports, all of its
# data in one directory. Needs Java 17 and Maven, which brings the jars named in kafka/pom.xml once into .cache/.
#
#   kafka.sh start DIR [property=value ...]   prints the bootstrap address once the broker answers
#   kafka.sh stop DIR                         ends it (SIGTERM, after 20 s SIGKILL) and waits for that
#
# Flush settings are Kafka's own unless given: no fsync, the page cache is trusted. log.flush.interval.messages=1
# here, or flush.messages=1 on a topic, makes it fsync on every append before it acknowledges (acks=all).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
libraries="$here/.cache/kafka-libs"
start_seconds=60
stop_seconds=20

fail() { echo "kafka.sh: $*" >&2; exit 1; }

require_tools() {
    command -v java >/dev/null || fail "java (17 or later) is not installed"
    local major
    major="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)"
    [ "${major:-0}" -ge 17 ] || fail "Java 17 or later is needed, this is ${major:-unknown}"
}

bring_libraries() {
    # The stamp holds the pom's checksum: another version in the pom is fetched anew.
    local wanted
    wanted="$(sha256sum < "$here/kafka/pom.xml")"
    [ -f "$libraries/.stamp" ] && [ "$(cat "$libraries/.stamp")" = "$wanted" ] && return
    command -v mvn >/dev/null || fail "mvn (Maven) is not installed and the jars are not in .cache yet"
    rm -rf "$libraries"
    mkdir -p "$libraries"
    (cd "$here/kafka" && mvn -B -q dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$libraries") >&2 || fail "Maven could not bring Kafka's jars"
    printf '%s\n' "$wanted" > "$libraries/.stamp"
}

free_ports() {
    python3 -c '
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))'
}

write_settings() {    # DIR CLIENT_PORT CONTROLLER_PORT [property=value ...]
    local directory="$1" client="$2" controller="$3"
    shift 3
    cat > "$directory/server.properties" <<SETTINGS
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$client,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$client
controller.listener.names=CONTROLLER
log.dirs=$directory/log
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
SETTINGS
    local setting
    for setting in "$@"; do printf '%s\n' "$setting" >> "$directory/server.properties"; done
}

running_pid() {       # DIR; prints the pid while it is still the broker of this directory
    local pid
    pid="$(cat "$1/kafka.pid" 2>/dev/null)" || return 1
    [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF "$1/server.properties" || return 1
    printf '%s\n' "$pid"
}

start() {
    mkdir -p "$1"
    local directory
    directory="$(cd "$1" && pwd)"
    shift
    running_pid "$directory" >/dev/null && fail "already running in $directory"
    require_tools
    bring_libraries
    local client controller
    read -r client controller < <(free_ports)
    write_settings "$directory" "$client" "$controller" "$@"
    if [ ! -f "$directory/log/meta.properties" ]; then
        local cluster
        cluster="$(java -cp "$libraries/*" kafka.tools.StorageTool random-uuid 2>/dev/null)"
        java -cp "$libraries/*" kafka.tools.StorageTool format --cluster-id "$cluster" \
            --config "$directory/server.properties" > "$directory/format.out" 2>&1 \
            || { tail -n 5 "$directory/format.out" >&2; fail "the data directory could not be formatted"; }
    fi
    : > "$directory/kafka.out"
    setsid java -server -Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -Djava.awt.headless=true \
        -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info \
        -cp "$libraries/*" kafka.Kafka "$directory/server.properties" \
        > "$directory/kafka.out" 2>&1 < /dev/null &
    local pid=$!
    printf '%s\n' "$pid" > "$directory/kafka.pid"
    local deadline=$((SECONDS + start_seconds))
    until grep -q "Kafka Server started" "$directory/kafka.out"; do
        kill -0 "$pid" 2>/dev/null || { tail -n 20 "$directory/kafka.out" >&2; fail "the broker ended while starting"; }
        [ "$SECONDS" -lt "$deadline" ] || { kill -KILL "$pid"; fail "no answer within $start_seconds s"; }
        sleep 0.1
    done
    printf '127.0.0.1:%s\n' "$client"
}

stop() {
    [ -d "$1" ] || return 0
    local directory pid
    directory="$(cd "$1" && pwd)"
    pid="$(running_pid "$directory")" || { rm -f "$directory/kafka.pid"; return 0; }
    kill -TERM "$pid" 2>/dev/null || true
    local deadline=$((SECONDS + stop_seconds))
    while running_pid "$directory" >/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.1
    done
    rm -f "$directory/kafka.pid"
}

case "${1:-}" in
    start) [ $# -ge 2 ] || fail "usage: kafka.sh start DIR [property=value ...]"; shift; start "$@" ;;
    stop) [ $# -eq 2 ] || fail "usage: kafka.sh stop DIR"; stop "$2" ;;
    *) fail "usage: kafka.sh start DIR [property=value ...] | stop DIR" ;;
esac
