#!/bin/sh
# Makes what compose.yaml mounts: Redis passwords nobody has to know, and folders for the secrets you bring.
# What exists is left alone, so it may run again. Usage: deploy/secrets.sh [FOLDER]
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
mkdir -p "$folder/receiver" "$folder/workers" "$folder/registration" "$folder/webhook"
if [ ! -e "$folder/users.acl" ]; then
    rules=$(awk '/^#/ { next } sub(/ *\\$/, "") { printf "%s", $0; next } { print }' "$here/redis-users.acl")
    for user in receiver workers admin; do
        password=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
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
if [ "$(id -u)" = 0 ]; then
    chown -R 10001:10001 "$folder/receiver" "$folder/workers" "$folder/registration" "$folder/webhook"
else
    echo "The containers run as user 10001. Give it the folders:" >&2
    echo "  sudo chown -R 10001:10001 $folder/receiver $folder/workers $folder/registration $folder/webhook" >&2
fi
