#!/bin/sh
# Starts the redis-server of compose.yaml: fills the passwords' hashes into users.acl and becomes the server.
# Needs LIGHTNING_STORE_ADMIN_PASSWORD and those of ALGORITHM, RUNNER and DAEMON; arguments go to redis-server.
set -eu

rules=
fill() {
    if [ -z "$2" ]; then
        echo "LIGHTNING_STORE_$1_PASSWORD is not set" >&2
        exit 2
    fi
    hash=$(printf %s "$2" | sha256sum | cut -d ' ' -f 1)
    rules="${rules}s/$1_PASSWORD_SHA256/$hash/
"
}
fill ADMIN "${LIGHTNING_STORE_ADMIN_PASSWORD:-}"
fill ALGORITHM "${LIGHTNING_STORE_ALGORITHM_PASSWORD:-}"
fill RUNNER "${LIGHTNING_STORE_RUNNER_PASSWORD:-}"
fill DAEMON "${LIGHTNING_STORE_DAEMON_PASSWORD:-}"

umask 077
users=$(mktemp)
# The rules come by a pipe: arguments can be read by everybody on the machine, and a weak password is found by its hash.
printf %s "$rules" | sed -f /dev/stdin "$(dirname "$0")/users.acl" >"$users"

# noeviction: a store that drops keys loses work. AOF: what was acknowledged survives a restart, but for the last second.
exec redis-server --aclfile "$users" --appendonly yes --appendfsync everysec --save "" --maxmemory-policy noeviction "$@"
