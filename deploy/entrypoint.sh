#!/bin/sh
# Settings are environment variables; secrets come as files. Each file of /run/secrets that is named like a
# setting becomes one, unless the environment has it already. Then `batch-receiver` takes this process's place.
set -eu
for file in "${SECRETS_FOLDER:-/run/secrets}"/*; do
    name=${file##*/}
    case $name in
        *[!A-Z0-9_]* | [0-9]*) continue ;;
    esac
    [ -f "$file" ] || continue
    eval "given=\${$name+yes}"
    [ "$given" = yes ] || export "$name=$(cat "$file")"
done
exec batch-receiver "$@"
