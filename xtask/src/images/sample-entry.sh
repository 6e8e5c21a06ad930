#!/bin/sh
# A session to look at: one page, until it is told to end.
name=${SESSION_ID:-$(hostname)}
mkdir -p /tmp/www
cat >/tmp/www/index.html <<HTML
<!doctype html><meta charset="utf-8"><title>$name</title>
<h1>Session $name</h1><p>It runs since $(date -u). Replace this image by a desktop of yours.</p>
HTML
httpd -f -p 3000 -h /tmp/www &
server=$!
trap 'kill $server; exit 0' TERM INT
wait $server
