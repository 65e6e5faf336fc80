#!/bin/sh
# Makes what compose.yaml mounts: Redis passwords nobody has to know, the console's, and folders for the secrets you bring.
# Run it again with each new version: the passwords and secrets that exist stay, the rights of Redis's users become those
# of redis-users.acl. Usage: deploy/secrets.sh [FOLDER]
set -eu
umask 077
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/secrets}
owned="receiver workers registration webhook console"
for name in $owned; do mkdir -p "$folder/$name"; done
random() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }
acl=$folder/users.acl
rules=$(awk '/^#/ { next } sub(/ *\\$/, "") { printf "%s", $0; next } { print }' "$here/redis-users.acl")
for user in receiver workers admin; do
    hash=
    [ ! -e "$acl" ] || hash=$(sed -n "s/^user $user .*#\([0-9a-f]\{64\}\).*/\1/p" "$acl")
    if [ -z "$hash" ]; then
        password=$(random)
        hash=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
        if [ "$user" = admin ]; then
            printf '%s\n' "$password" > "$folder/redis-admin-password"
        else
            printf 'redis://%s:%s@redis:6379/0\n' "$user" "$password" > "$folder/$user/REDIS_URL"
        fi
    fi
    rules=$(printf '%s\n' "$rules" | sed "s/{$user}/$hash/")
done
printf '%s\n' "$rules" > "$acl.new"
# Users of your own stay.
[ ! -e "$acl" ] || awk '/^user / && $2 !~ /^(default|health|receiver|workers|admin)$/' "$acl" >> "$acl.new"
# Redis runs as a user of its own. The file holds hashes of 256 random bits, nothing to log in with.
chmod 644 "$acl.new"
if [ ! -e "$acl" ]; then
    mv "$acl.new" "$acl"
elif cmp -s "$acl" "$acl.new"; then
    rm "$acl.new"
else
    cp -p "$acl" "$acl.before"
    mv "$acl.new" "$acl"
    echo "$acl has the rights of this version; restart Redis, which reads it then. The former one is $acl.before." >&2
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
