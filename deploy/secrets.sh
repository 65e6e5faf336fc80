#!/bin/sh
# Makes what compose.yaml mounts: Redis passwords nobody has to know, the console's, and folders for the secrets you bring.
# What exists is left alone, so it may run again. Usage: deploy/secrets.sh [FOLDER]
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
owned="receiver workers registration webhook console"
for name in $owned; do mkdir -p "$folder/$name"; done
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
if [ ! -e "$folder/users.acl" ]; then
    rules=$(awk '/^#/ { next } sub(/ *\\$/, "") { printf "%s", $0; next } { print }' "$here/redis-users.acl")
    for user in receiver workers admin; do
        password=$(random)
        hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
        rules=$(printf '%s\n' "$rules" | sed "s/{$user}/$hash/")
        if [ "$user" = admin ]; then
            printf '%s\n' "$password" > "$folder/redis-admin-password"
        else
            printf 'redis://%s:%s@redis:6379/0\n' "$user" "$password" > "$folder/$user/REDIS_URL"
        fi
    done
    printf '%s\n' "$rules" > "$folder/users.acl.new"
    # Redis runs as a user of its own. The file holds hashes of 256 random bits, nothing to log in with.
    chmod 644 "$folder/users.acl.new"
    mv "$folder/users.acl.new" "$folder/users.acl"
fi
[ -e "$folder/console/CONSOLE_PASSWORD" ] || random > "$folder/console/CONSOLE_PASSWORD"
cd "$folder"
# shellcheck disable=SC2086  # These are words.
if [ "$(id -u)" = 0 ]; then
    chown -R 10001:10001 $owned
else
    echo "The containers run as user 10001. Give it the folders:" >&2
    echo "  (cd '$folder' && sudo chown -R 10001:10001 $owned)" >&2
fi
