#!/usr/bin/env bash
# Runs the main job: `make run SOURCE=DIR TARGET=DEST`. With nothing given it
# makes a small tree and an empty target, and shows a file arriving.
set -euo pipefail
source=$1 target=$2
if [ -n "$source" ] && [ -n "$target" ]; then
  redis=() own=redis://127.0.0.1:6379
  # The package of redis-server starts one, which the CMS uses too; but not one
  # that another fastsync is using.
  if [ -z "${FASTSYNC_REDIS-}${FASTSYNC_REDIS_LISTEN-}${FASTSYNC_CONFIG-}" ] && [ "$(redis-cli -u $own ping 2>/dev/null)" = PONG ] &&
    ! bin/fastsync status --redis $own >/dev/null 2>&1; then
    echo "A Redis answers at 127.0.0.1:6379: fastsync uses it."
    redis=(--redis $own)
  fi
  exec bin/fastsync run "${redis[@]}" --source "$source" --target "$target"
elif [ -n "$source$target" ]; then
  echo "give both SOURCE=DIR and TARGET=DEST, or neither for a demo" >&2
  exit 2
fi
demo=$(mktemp -d)
mkdir -p "$demo/www/img"
echo "an older picture" > "$demo/www/img/old.jpg"
bin/fastsync run --source "$demo/www" --target "$demo/target" --state-dir "$demo/state" --redis-listen '' > "$demo/log" 2>&1 &
agent=$!
trap 'kill "$agent" 2>/dev/null || true; wait "$agent" 2>/dev/null || true; rm -rf "$demo"' EXIT
wait_for() {
  for _ in $(seq 1000); do
    [ -e "$1" ] && return
    kill -0 "$agent" 2>/dev/null || break
    sleep 0.01
  done
  echo "$1 did not arrive; fastsync said:" >&2
  cat "$demo/log" >&2
  exit 1
}
wait_for "$demo/target/img/old.jpg"
echo "The target has what was there:  $demo/target/img/old.jpg"
begun=$(date +%s%N)
echo "a new picture" > "$demo/www/img/new.jpg"
wait_for "$demo/target/img/new.jpg"
echo "A new file arrived after $(( ($(date +%s%N) - begun) / 1000000 )) ms:  $demo/target/img/new.jpg"
echo "A sweep proves that the two are equal:"
bin/fastsync sweep --state-dir "$demo/state"
bin/fastsync status --state-dir "$demo/state"
