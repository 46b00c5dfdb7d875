#!/bin/bash
# Build the images, make the secrets once, and start everything. It may be repeated: that is also the update.
set -euo pipefail
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }
secret() { [ -e "secrets/$1" ] || printf %s "${2:-$(random)}" > "secrets/$1"; }

secret mysql_password; secret mysql_root_password; secret redis_password; secret grafana_password
secret encryption_key; secret jwt_secret
secret database_url "mysql+aiomysql://safevideo:$(cat secrets/mysql_password)@mysql/safevideo"
secret redis_url "redis://:$(cat secrets/redis_password)@redis:6379"
missing=()
for name in sharegram_api_key sharegram_secret_key sharegram_webhook_secret; do
    [ -e "secrets/$name" ] || missing+=("secrets/$name")
done
if [ "${1:-}" = --simulator ]; then
    for name in sharegram_api_key sharegram_secret_key sharegram_webhook_secret; do secret "$name"; done
    for name in sharegram_api_key sharegram_secret_key sharegram_webhook_secret; do
        echo "${name^^}=$(cat "secrets/$name")"
    done > secrets/simulator.env
    export SHAREGRAM_API_URL=http://simulator:3900/v1 COMPOSE_PROFILES=simulator SAFEVIDEO_ENV=development
elif [ ${#missing[@]} -gt 0 ]; then
    echo "Write what Sharegram gave you into: ${missing[*]}, or try it with: $0 --simulator" >&2
    exit 1
fi
if [ ! -e secrets/tls.crt ]; then
    echo "No secrets/tls.crt and secrets/tls.key: making a certificate for ${SERVER_NAME:-localhost} that no browser trusts."
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj "/CN=${SERVER_NAME:-localhost}" \
        -addext "subjectAltName=DNS:${SERVER_NAME:-localhost}" -keyout secrets/tls.key -out secrets/tls.crt 2> /dev/null
fi
chmod 644 secrets/*   # a container's user reads them; the folder is this user's alone
chmod 700 secrets

export VERSION=${VERSION:-$(git rev-parse --short=12 HEAD)}
../docker/build.sh "$VERSION"
docker compose up -d --wait --remove-orphans
docker compose ps
