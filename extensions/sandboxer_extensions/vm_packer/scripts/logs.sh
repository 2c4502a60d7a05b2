# logs.sh DIRECTORY LINES FOLLOW: print the log, LINES empty for all that is kept.
set -eu
cd "$1/.sandboxer"
lines=$2
if [ "$3" = yes ]; then
    # -F goes on in the new file when the log is turned over.
    exec tail -n "${lines:-+1}" -F log 2>/dev/null
fi
if [ -n "$lines" ]; then
    cat log.1 log 2>/dev/null | tail -n "$lines"
else
    cat log.1 log 2>/dev/null || :
fi
