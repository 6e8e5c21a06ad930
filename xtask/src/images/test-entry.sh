#!/bin/sh
# What the tests look at: /config/starts has a line for every start, the log has a tick for every second,
# and port 3000 answers with the session's name and, under /starts, with that file.
echo start >>/config/starts
mkdir -p /tmp/www
echo "session ${SESSION_ID:-$(hostname)}" >/tmp/www/index.html
ln -sf /config/starts /tmp/www/starts
httpd -f -p 3000 -h /tmp/www &
server=$!
trap 'echo stopping; kill $server; exit 0' TERM INT
tick=0
while kill -0 $server; do
  tick=$((tick + 1))
  echo "tick $tick"
  sleep 1 &
  wait $!
done
