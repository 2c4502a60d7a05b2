# tell.sh DIRECTORY TEXT: add a line to the log, which `sandboxer logs -f` shows.
printf '%s sandboxer: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$2" >>"$1/.sandboxer/log"
