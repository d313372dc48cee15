#!/bin/sh
# Starts the redis-server of compose.yaml: fills the passwords' hashes into users.acl and becomes the server.
# Needs LIGHTNING_STORE_ADMIN_PASSWORD and LIGHTNING_STORE_RUNNER_PASSWORD; arguments go to redis-server.
set -eu

sha256() {
    printf %s "$1" | sha256sum | cut -d ' ' -f 1
}

for name in LIGHTNING_STORE_ADMIN_PASSWORD LIGHTNING_STORE_RUNNER_PASSWORD; do
    eval "value=\${$name:-}"
    if [ -z "$value" ]; then
        echo "$name is not set" >&2
        exit 2
    fi
done

umask 077
users=$(mktemp)
sed -e "s/ADMIN_PASSWORD_SHA256/$(sha256 "$LIGHTNING_STORE_ADMIN_PASSWORD")/" \
    -e "s/RUNNER_PASSWORD_SHA256/$(sha256 "$LIGHTNING_STORE_RUNNER_PASSWORD")/" \
    "$(dirname "$0")/users.acl" >"$users"

# noeviction: a store that drops keys loses work. AOF: what was acknowledged survives a restart, but for the last second.
exec redis-server --aclfile "$users" --appendonly yes --appendfsync everysec --save "" --maxmemory-policy noeviction "$@"
